package source

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// fileTree is the tree of one file.
type fileTree struct {
	root, file *rootfs.Entry
	contents   io.ReaderAt
}

func newFileTree(d *download) *fileTree {
	modified := d.modified
	if modified.IsZero() {
		modified = time.Unix(0, 0)
	}
	t := &fileTree{contents: d.file}
	t.root = &rootfs.Entry{Header: &tar.Header{
		Typeflag: tar.TypeDir, Name: ".", Mode: 0o755, ModTime: modified, Format: tar.FormatPAX,
	}}
	t.file = &rootfs.Entry{Header: &tar.Header{
		Typeflag: tar.TypeReg, Name: d.name, Mode: fileMode, Size: d.size, ModTime: modified, Format: tar.FormatPAX,
	}}
	_, _ = hex.Decode(t.file.Digest[:], []byte(d.sha256)[:2*sha256.Size]) // it was encoded or checked by us
	return t
}

// entry returns what is called name.
func (t *fileTree) entry(op, name string) (*rootfs.Entry, error) {
	switch name {
	case ".":
		return t.root, nil
	case t.file.Header.Name:
		return t.file, nil
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// Lstat describes a file.
func (t *fileTree) Lstat(name string) (fs.FileInfo, error) {
	e, err := t.entry("lstat", name)
	if err != nil {
		return nil, err
	}
	return rootfs.NewFileInfo(e), nil
}

// ReadLink finds no links.
func (t *fileTree) ReadLink(name string) (string, error) {
	_, err := t.entry("readlink", name)
	if err == nil {
		err = &fs.PathError{Op: "readlink", Path: name, Err: syscall.EINVAL}
	}
	return "", err
}

// ReadDir describes what is in the root.
func (t *fileTree) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.entry("readdir", name)
	if err != nil {
		return nil, err
	}
	if e != t.root {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	return []fs.DirEntry{rootfs.NewFileInfo(t.file)}, nil
}

// Open opens the file.
func (t *fileTree) Open(name string) (fs.File, error) {
	e, err := t.entry("open", name)
	if err != nil {
		return nil, err
	}
	if e != t.file {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return &treeFile{io.NewSectionReader(t.contents, 0, e.Header.Size), rootfs.NewFileInfo(e)}, nil
}

// treeFile is a file of a fileTree, open.
type treeFile struct {
	*io.SectionReader
	info fs.FileInfo
}

// Stat describes the file.
func (f *treeFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close ends the use of the file, which belongs to the tree.
func (f *treeFile) Close() error { return nil }
