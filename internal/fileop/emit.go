package fileop

import (
	"archive/tar"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// whiteoutPrefix begins the names by which layers say that a file is gone.
const whiteoutPrefix = ".wh."

// emit passes on what differs from the base, with the parents. It may be called once.
func (t *tree) emit(ctx context.Context, yield func(snapshot.Change, error) bool) {
	t.root.want()
	t.root.emit(ctx, rootName, yield)
}

// want notes on n and below what emit has to pass on, and reports whether that is anything.
func (n *node) want() bool {
	n.wanted = n.changed && (n.was == nil || n.hides || !n.was.same(n))
	for _, c := range n.children {
		if c.want() {
			n.wanted = true
		}
	}
	return n.wanted
}

// emit passes on what is below the directory n, in the order of snapshot.Changes. It lets go of what it has passed on:
// whoever writes a layer collects an index meanwhile, and there can be hundreds of thousands of files.
func (n *node) emit(ctx context.Context, name string, yield func(snapshot.Change, error) bool) bool {
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[base]
		if !c.wanted {
			continue
		}
		if ctx.Err() != nil {
			yield(snapshot.Change{}, context.Cause(ctx))
			return false
		}
		full := join(name, base)
		if strings.HasPrefix(base, whiteoutPrefix) {
			yield(snapshot.Change{}, fmt.Errorf("copy %q: a name that begins with %q would delete a file of the image instead of adding one; rename or exclude it", show(full), whiteoutPrefix))
			return false
		}
		if !yield(c.change(full), nil) {
			return false
		}
		if c.isDir() && !c.emit(ctx, full, yield) {
			return false
		}
		delete(n.children, base)
	}
	return true
}

// change returns n as the change of name.
func (n *node) change(name string) snapshot.Change {
	h := &tar.Header{
		Typeflag: n.typ, Name: name, Linkname: n.link, Size: n.size, Mode: n.mode, Uid: n.uid, Gid: n.gid,
		ModTime: n.mtime, Devmajor: n.major, Devminor: n.minor, PAXRecords: maps.Clone(n.xattrs),
	}
	c := snapshot.Change{Header: h}
	switch {
	case n.isDir():
		if n.hides {
			c.Kind = snapshot.Opaque
		}
	case n.emitted != "":
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, n.emitted, 0
	default:
		n.emitted = name
		c.Open = n.open
	}
	return c
}
