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
	sources []*source // of the layers, the lowest first
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
	return int(n.layer), n.rec, nil
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
	return NewFileInfo(n.entry(name)), nil
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
	return n.rec.Header.Linkname, nil
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
		list[i] = NewFileInfo(n.children[base].entry(join(name, base)))
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
	if n.rec == nil || !isRegular(n.rec.Header.Typeflag) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	r, err := t.sources[n.source].open(n.rec)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &layerFile{info: NewFileInfo(n.entry(name)), r: r, left: n.rec.Header.Size}, nil
}

// entry returns the Entry of n, whose name in the tree is name.
func (n *node) entry(name string) *Entry {
	if n.rec == nil {
		return &Entry{Header: &tar.Header{
			Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
		}}
	}
	e := &Entry{Header: &n.rec.Header, Inode: n.inode, Digest: n.rec.Digest}
	h := e.Header
	regular := isRegular(h.Typeflag)
	// Mostly the record's header will do as it is.
	if h.Name == name && h.Mode&^0o7777 == 0 && (!regular || h.Typeflag == tar.TypeReg) {
		return e
	}
	c := *h
	c.Name, c.Mode = name, h.Mode&0o7777
	if regular {
		c.Typeflag = tar.TypeReg
	}
	e.Header = &c
	return e
}
