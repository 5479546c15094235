package rootfs

import (
	"archive/tar"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// LayerTree is the [Tree] of a stack of layers. It does not change; see With for what comes on top.
type LayerTree struct {
	root    *node
	indexes []*Index  // of the layers, the lowest first
	sources []*source // of the same layers
	options Options

	// What With goes on counting: see merger.
	inodes   uint64
	implicit int
}

// Close removes temporary files. Files opened from the tree must be closed before. Trees
// that With made of this one are not affected.
func (t *LayerTree) Close() error {
	var err error
	for _, s := range t.sources {
		if e := s.release(); err == nil {
			err = e
		}
	}
	t.sources = nil
	return err
}

// Origin says where a name comes from: the layer that gave the file its name and its metadata, counted
// from the lowest, which is 0, and its record there. The record is that of the target for a hard link,
// and nil for a directory that no layer has an entry of.
func (t *LayerTree) Origin(name string) (layer int, rec *Record, err error) {
	n := t.find(name)
	if n == nil {
		return 0, nil, notExist("origin", name)
	}
	return int(n.layer), t.record(n), nil
}

// record returns the record that describes n, or nil for a directory that is only implied.
func (t *LayerTree) record(n *node) *Record {
	if n.implied {
		return nil
	}
	return t.indexes[n.place.layer].packed.at(n.place.at)
}

// Layers returns the layers of the tree, the lowest first.
func (t *LayerTree) Layers() []v1.Layer {
	list := make([]v1.Layer, len(t.sources))
	for i, s := range t.sources {
		list[i] = s.layer
	}
	return list
}

// find returns the node of name, or nil.
func (t *LayerTree) find(name string) *node {
	n := t.root
	if name == "." {
		return n
	}
	for more := true; more && n != nil; {
		var part string
		part, name, more = strings.Cut(name, "/")
		n = n.children[part]
	}
	return n
}

// Lstat describes a file.
func (t *LayerTree) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name) }

// Stat is Lstat: a Tree follows no links.
func (t *LayerTree) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name) }

func (t *LayerTree) stat(op, name string) (fs.FileInfo, error) {
	n := t.find(name)
	if n == nil {
		return nil, notExist(op, name)
	}
	return NewFileInfo(t.entry(n, name)), nil
}

// ReadLink returns the target of a symbolic link.
func (t *LayerTree) ReadLink(name string) (string, error) {
	n := t.find(name)
	if n == nil {
		return "", notExist("readlink", name)
	}
	if !n.isLink() {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: syscall.EINVAL}
	}
	return t.record(n).Header.Linkname, nil
}

// ReadDir describes what is in a directory.
func (t *LayerTree) ReadDir(name string) ([]fs.DirEntry, error) {
	n := t.find(name)
	if n == nil {
		return nil, notExist("readdir", name)
	}
	if !n.isDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	names := make([]string, 0, len(n.children))
	for base := range n.children {
		names = append(names, base)
	}
	slices.Sort(names)
	list := make([]fs.DirEntry, len(names))
	for i, base := range names {
		list[i] = NewFileInfo(t.entry(n.children[base], join(name, base)))
	}
	return list, nil
}

// Open opens a regular file. Reading gives as many bytes as Stat says, or an error. Files are read
// cheapest in the order in which they lie in their layers.
func (t *LayerTree) Open(name string) (fs.File, error) {
	n := t.find(name)
	if n == nil {
		return nil, notExist("open", name)
	}
	if !isRegular(n.typeflag) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	rec := t.record(n)
	r, err := t.sources[n.place.layer].open(rec)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &layerFile{info: NewFileInfo(t.entry(n, name)), r: r, left: rec.Header.Size}, nil
}

// entry returns the Entry of n, whose name in the tree is name.
func (t *LayerTree) entry(n *node, name string) *Entry {
	rec := t.record(n)
	if rec == nil {
		return &Entry{Header: &tar.Header{
			Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
		}}
	}
	h := &rec.Header
	h.Name = name
	h.Mode &= 0o7777
	if isRegular(h.Typeflag) {
		h.Typeflag = tar.TypeReg
	}
	return &Entry{Header: h, Inode: n.inode, Digest: rec.Digest}
}
