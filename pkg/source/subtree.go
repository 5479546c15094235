package source

import (
	"io/fs"
	"path"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// subTree is a directory of a tree as a tree.
type subTree struct {
	all rootfs.Tree
	dir string
}

// newSubTree returns the tree of dir, a directory of all.
func newSubTree(all rootfs.Tree, dir string) rootfs.Tree {
	if dir == "." {
		return all
	}
	return &subTree{all, dir}
}

// path is the name in all of a name in the tree.
func (t *subTree) path(name string) string { return path.Join(t.dir, rootfs.Clean(name)) }

// info returns fi under its name in the tree.
func (t *subTree) info(fi fs.FileInfo) fs.FileInfo {
	e := *rootfs.EntryOf(fi)
	h := *e.Header
	if h.Name = strings.TrimPrefix(h.Name[len(t.dir):], "/"); h.Name == "" {
		h.Name = "."
	}
	e.Header = &h
	return rootfs.NewFileInfo(&e)
}

// Open opens a regular file.
func (t *subTree) Open(name string) (fs.File, error) { return t.all.Open(t.path(name)) }

// ReadLink returns the target of a symbolic link.
func (t *subTree) ReadLink(name string) (string, error) {
	return t.all.ReadLink(t.path(name))
}

// Lstat describes a file.
func (t *subTree) Lstat(name string) (fs.FileInfo, error) {
	fi, err := t.all.Lstat(t.path(name))
	if err != nil {
		return nil, err
	}
	return t.info(fi), nil
}

// ReadDir describes what is in a directory.
func (t *subTree) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := t.all.ReadDir(t.path(name))
	if err != nil {
		return nil, err
	}
	for i, d := range list {
		fi, err := d.Info()
		if err != nil {
			return nil, err
		}
		list[i] = fs.FileInfoToDirEntry(t.info(fi))
	}
	return list, nil
}
