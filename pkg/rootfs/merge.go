package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"
)

// Names that say that something is gone (image-spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// Limits on what a stack of layers may make of few bytes.
const (
	// maxName is PATH_MAX: nobody could extract longer names. It also bounds how deep directories lie in
	// each other, and with that all recursion over a tree.
	maxName = 4096
	// maxImplicit bounds the directories that are only implied by the names of others, each of
	// which takes some 300 bytes: a name of 4096 bytes implies two thousand.
	maxImplicit = 1 << 18
)

// node is one name in a tree of layers. Nodes that a finished tree holds are never changed: a
// merger copies those that it did not make itself.
type node struct {
	children map[string]*node // nil for what is no directory
	owner    *owner
	inode    uint64 // as Entry.Inode
	place    place
	layer    int32 // that gave the name, counted from below; another than that of place for a link to a file below
	typeflag byte  // that of the record
	implied  bool  // a directory that no layer has a record of
}

// place says which record describes a file: that of one layer, counted from below.
type place struct {
	layer int32
	at    position
}

// owner tells mergers apart. It has a size, so that each has an address of its own.
type owner struct{ _ byte }

// impliedDir returns a directory that no layer has a record of.
func impliedDir() *node {
	return &node{children: map[string]*node{}, typeflag: tar.TypeDir, implied: true}
}

func (n *node) isDir() bool { return n.children != nil }

func (n *node) isLink() bool { return n.typeflag == tar.TypeSymlink }

// merger puts layers on top of a tree.
type merger struct {
	tree  *LayerTree // in the making
	owner *owner
	layer int32 // the one that is being added
	// links holds the inode of files of lower layers that this layer links to. The files
	// below keep theirs: an overlay copies a file up to link to it.
	links map[place]uint64

	// The directory of the last record, which is mostly that of the next too. Nothing that a
	// record does to what is in its directory makes the directory another one.
	lastName string
	lastDir  *node
	trail    []*node // scratch of enter
}

// add puts the layer that x lists on top.
func (m *merger) add(x *Index) error {
	m.layer, m.links, m.lastDir = int32(len(m.tree.indexes)), nil, nil
	m.tree.indexes = append(m.tree.indexes, x)
	for at, rec := range x.packed.all() {
		if err := m.record(rec, at); err != nil {
			return fmt.Errorf("%q: %w", rec.Header.Name, err)
		}
	}
	return nil
}

func (m *merger) record(rec *Record, at position) error {
	name := rec.Header.Name
	if name == "." {
		if rec.Header.Typeflag == tar.TypeDir {
			m.tree.root = m.own(m.tree.root)
			m.describe(m.tree.root, rec, at)
		}
		return nil
	}
	dirName, base := split(name)
	if strings.HasPrefix(dirName, whiteoutPrefix) || strings.Contains(dirName, "/"+whiteoutPrefix) {
		return nil // what aufs kept in directories of its own
	}
	dir, err := m.parent(dirName)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return m.whiteout(dir, base)
	}
	switch rec.Header.Typeflag {
	case tar.TypeDir:
		m.addDir(dir, base, rec, at)
	case tar.TypeLink:
		return m.addLink(dir, base, rec)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		n := &node{}
		m.describe(n, rec, at)
		m.put(dir, base, n)
	default:
		return fmt.Errorf("unknown type of file %q", rec.Header.Typeflag)
	}
	return nil
}

// addDir makes a directory, or changes the metadata of the one that is there.
func (m *merger) addDir(dir *node, base string, rec *Record, at position) {
	n := dir.children[base]
	if n == nil || !n.isDir() {
		n = &node{children: map[string]*node{}}
		m.put(dir, base, n)
	} else {
		n = m.own(n)
		dir.children[base] = n
	}
	m.describe(n, rec, at)
}

// describe says which record, of the layer that is being added, describes n.
func (m *merger) describe(n *node, rec *Record, at position) {
	n.layer, n.place = m.layer, place{m.layer, at}
	n.typeflag, n.implied = rec.Header.Typeflag, false
}

// addLink makes another name of a file.
func (m *merger) addLink(dir *node, base string, rec *Record) error {
	target, err := m.find(rec.Header.Linkname)
	switch {
	case err != nil:
		return err
	case target == nil:
		return fmt.Errorf("hard link to %q, which does not exist", rec.Header.Linkname)
	case target.isDir():
		return fmt.Errorf("hard link to %q, which is a directory", rec.Header.Linkname)
	case dir.children[base] == target:
		return errors.New("hard link to itself")
	}
	n := &node{place: target.place, typeflag: target.typeflag, layer: m.layer, inode: target.inode}
	if target.layer != m.layer {
		n.inode = m.links[target.place]
	}
	if n.inode == 0 {
		m.tree.inodes++
		n.inode = m.tree.inodes
	}
	if target.layer == m.layer {
		target.inode = n.inode // made by this merger, so it may be changed
	} else {
		if m.links == nil {
			m.links = make(map[place]uint64)
		}
		m.links[target.place] = n.inode
	}
	m.put(dir, base, n)
	return nil
}

// put makes n the child of dir, which is our own, under that name, in place of what was there.
func (m *merger) put(dir *node, base string, n *node) {
	n.owner = m.owner
	dir.children[base] = n
}

// whiteout takes away what lower layers have in dir: all of it or one name. What this
// layer has put there stays, whatever the order.
func (m *merger) whiteout(dir *node, base string) error {
	if base == opaqueMarker {
		m.pruneChildren(dir)
		return nil
	}
	name := base[len(whiteoutPrefix):]
	switch name {
	case "", ".", "..":
		return errors.New("invalid whiteout")
	}
	if n := dir.children[name]; n != nil {
		m.pruneChild(dir, name, n)
	}
	return nil
}

func (m *merger) pruneChildren(dir *node) {
	for name, n := range dir.children {
		m.pruneChild(dir, name, n)
	}
}

func (m *merger) pruneChild(dir *node, name string, n *node) {
	if n.isDir() {
		n = m.own(n)
		dir.children[name] = n
		m.pruneChildren(n)
	}
	if n.layer != m.layer && len(n.children) == 0 {
		delete(dir.children, name)
	}
}

// own returns n, or a copy of it when it belongs to a finished tree.
func (m *merger) own(n *node) *node {
	if n.owner == m.owner {
		return n
	}
	c := *n
	c.owner = m.owner
	c.children = maps.Clone(n.children)
	return &c
}

// parent returns the directory of a record, our own, and makes it when it is missing.
func (m *merger) parent(name string) (*node, error) {
	if m.lastDir != nil && m.lastName == name {
		return m.lastDir, nil
	}
	n, err := m.enter(name)
	if err != nil {
		return nil, err
	}
	m.lastName, m.lastDir = name, n
	return n, nil
}

// enter goes down to the directory name, following links, and makes all that it passes our own.
// Missing directories are made, with mode 0755 and owned by root. A file of a lower layer gives way to
// a directory.
func (m *merger) enter(name string) (*node, error) {
	m.tree.root = m.own(m.tree.root)
	trail := m.trail[:0]
	trail = append(trail, m.tree.root)
	defer func() { m.trail = trail }()
	links := 0
	for rest := name; rest != ""; {
		if len(rest) > maxName || len(trail) > maxName {
			return nil, syscall.ENAMETOOLONG
		}
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		at := trail[len(trail)-1]
		n := at.children[part]
		switch {
		case part == "" || part == ".":
		case part == "..":
			trail = trail[:max(1, len(trail)-1)]
		case n != nil && n.isDir():
			n = m.own(n)
			at.children[part] = n
			trail = append(trail, n)
		case n != nil && n.isLink():
			if links++; links > maxLinks {
				return nil, syscall.ELOOP
			}
			target := m.tree.record(n).Header.Linkname
			if strings.HasPrefix(target, "/") {
				trail = trail[:1]
			}
			rest = target + "/" + rest
		case n != nil && n.layer == m.layer:
			return nil, syscall.ENOTDIR
		default:
			if m.tree.implicit++; m.tree.implicit > maxImplicit {
				return nil, errTooLarge
			}
			n = impliedDir()
			n.layer = m.layer
			m.put(at, part, n)
			trail = append(trail, n)
		}
	}
	return trail[len(trail)-1], nil
}

// find returns the node of a hard link's target, or nil when there is none. Links are followed in all
// components but the last.
func (m *merger) find(name string) (*node, error) {
	if len(name) > maxName {
		return nil, syscall.ENAMETOOLONG
	}
	name, err := ResolveParent(m.tree, name)
	if err != nil {
		return nil, err
	}
	return m.tree.find(name), nil
}
