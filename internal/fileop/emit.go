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
	e := emitter{ctx: ctx, yield: yield, names: make(map[*node]string)}
	e.below(t.root, rootName)
}

type emitter struct {
	ctx   context.Context //nolint:containedctx // it lives for one call
	yield func(snapshot.Change, error) bool
	names map[*node]string // under which files with several were passed on
}

// want notes on n and below what emit has to pass on, and reports whether that is anything.
func (n *node) want() bool {
	l := n.below()
	n.wanted = n.changed && (l.was == nil || l.hides || !l.was.same(n))
	for _, c := range n.children {
		if c.want() {
			n.wanted = true
		}
	}
	return n.wanted
}

// below passes on what is below the directory n, in the order of snapshot.Changes. It lets go of what it has passed on:
// whoever writes a layer collects an index meanwhile, and there can be hundreds of thousands of files.
func (e *emitter) below(n *node, name string) bool {
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[base]
		if !c.wanted {
			continue
		}
		if e.ctx.Err() != nil {
			e.yield(snapshot.Change{}, context.Cause(e.ctx))
			return false
		}
		full := join(name, base)
		if strings.HasPrefix(base, whiteoutPrefix) {
			e.yield(snapshot.Change{}, fmt.Errorf("copy %q: a name that begins with %q would delete a file of the image instead of adding one; rename or exclude it", show(full), whiteoutPrefix))
			return false
		}
		if !e.yield(e.change(c, full), nil) {
			return false
		}
		if c.isDir() && !e.below(c, full) {
			return false
		}
		delete(n.children, base)
	}
	return true
}

// change returns n as the change of name.
func (e *emitter) change(n *node, name string) snapshot.Change {
	rare := n.rare()
	h := &tar.Header{
		Typeflag: n.typ, Name: name, Linkname: rare.link, Size: n.size, Mode: int64(n.mode), Uid: int(n.uid), Gid: int(n.gid),
		ModTime: n.time(), Devmajor: rare.major, Devminor: rare.minor, PAXRecords: maps.Clone(rare.xattrs),
	}
	c := snapshot.Change{Header: h}
	switch {
	case n.isDir():
		if n.below().hides {
			c.Kind = snapshot.Opaque
		}
	case n.linked && e.names[n] != "":
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, e.names[n], 0
	default:
		if n.linked {
			e.names[n] = name
		}
		if n.typ == tar.TypeReg && n.size > 0 {
			c.Open = n.body.read
		}
	}
	return c
}
