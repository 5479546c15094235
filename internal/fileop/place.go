package fileop

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// placer carries out a Copy on a tree.
type placer struct {
	*Selection
	tree *tree
	own  *owner // of everything, from Chown; nil keeps owners
}

// place returns base with the selection copied into it.
func (s *Selection) place(ctx context.Context, base rootfs.Tree) (*tree, error) {
	if s.copy.Link {
		base = nil
	}
	own, err := s.owner.lookup(base, true)
	if err != nil {
		return nil, err
	}
	t, err := newTree(base)
	if err != nil {
		return nil, err
	}
	p := placer{Selection: s, tree: t, own: own}
	for _, it := range s.items {
		if it.archive {
			err = p.unpack(ctx, it)
		} else {
			err = p.copy1(ctx, it)
		}
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// made says how parents are made that are missing. Those of a linked copy always are: they come to lie over the ones of
// an image that nobody has looked at, so that the mode of a file, such as 0600, must not become that of its /etc.
func (p *placer) made() dirAttr {
	mode := p.chmod.dirMode()
	if p.copy.Link {
		mode = defaultDirMode
	}
	return dirAttr{mode: mode, owner: p.own, mtime: p.copy.Time}
}

// copy1 copies one item. The links in the destination are followed, its last component
// included; a file lands in a destination that is a directory, and the contents of a directory land in it.
func (p *placer) copy1(ctx context.Context, it *item) error {
	t, dest := p.tree, p.copy.Dest
	ensure := dest
	if d, f := path.Split(dest); f != "" && f != "." {
		ensure = d
	}
	parent, err := t.resolve(rootName, ensure)
	if err != nil {
		return err
	}
	if err := t.mkdirAll(parent, p.made()); err != nil {
		return err
	}
	target, err := t.resolve(rootName, path.Clean(dest))
	if err != nil {
		return err
	}
	if it.file.isDir() {
		return p.copyDir(ctx, it, target)
	}
	n, err := t.lookup(target)
	if err != nil {
		return err
	}
	if n != nil && n.isDir() {
		target = join(target, it.name)
	}
	if err := t.mkdirAll(parentOf(target), p.made()); err != nil {
		return err
	}
	return p.putFile(&it.file, target, nil)
}

// copyDir copies what is in the directory it into target, which is made like a parent when it is missing. An
// existing target keeps its owner and mode, the directories in it take over those of the source.
func (p *placer) copyDir(ctx context.Context, it *item, target string) error {
	t := p.tree
	if err := t.mkdirAll(target, p.made()); err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("cannot copy to non-directory: %s", show(target))
		}
		return err
	}
	links := map[uint64]*node{}
	for i, f := range it.below.all() {
		if i%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := path.Join(target, it.rel(f))
		var err error
		if f.isDir() {
			err = p.putDir(f, name)
		} else {
			err = p.putFile(f, name, links)
		}
		if err != nil {
			return err
		}
	}
	n, err := t.lookup(target)
	if err != nil {
		return err
	}
	if n != t.root {
		n.update(func(n *node) { n.setTime(it.file.time()) })
	}
	return nil
}

// attr is what f becomes where it lands.
func (p *placer) attr(f *file) attr {
	a := f.attr
	switch {
	case p.own != nil:
		a.setOwner(p.own)
	case !f.item.src.KeepOwner:
		a.uid, a.gid = 0, 0
	}
	if a.typ != tar.TypeSymlink {
		a.mode = p.chmod.apply(a.mode, a.isDir())
	}
	return a
}

// putDir makes the directory name like f, or gives an existing one the metadata of f.
func (p *placer) putDir(f *file, name string) error {
	n, err := p.tree.lookup(name)
	if err != nil {
		return err
	}
	a := p.attr(f)
	switch {
	case n == nil:
		if f.implied {
			a.setTime(p.copy.Time)
		}
		return p.tree.put(name, &node{attr: a})
	case !n.isDir():
		return fmt.Errorf("cannot copy to non-directory: %s", show(name))
	case f.implied:
		// BuildKit sets the mode of the source, and nothing else.
		n.update(func(n *node) { n.mode = f.mode })
	default:
		n.update(func(n *node) {
			n.mode, n.uid, n.gid = a.mode, a.uid, a.gid
			n.setTime(a.time())
			n.addXattrs(a.rare().xattrs)
		})
	}
	return nil
}

// putFile makes name like f, which is no directory. links holds the hard-linked files of the item
// that have been copied, by inode; nil where there is only one file.
func (p *placer) putFile(f *file, name string, links map[uint64]*node) error {
	old, err := p.tree.lookup(name)
	if err != nil {
		return err
	}
	if old != nil && old.isDir() {
		return fmt.Errorf("cannot replace to directory %s with file", show(name))
	}
	n := &node{attr: p.attr(f)}
	if n.typ == tar.TypeReg {
		n.body = f
	}
	if old != nil && old.same(n) {
		return nil // even when other names of a hard-linked file do change, as in BuildKit
	}
	if n.typ != tar.TypeReg {
		return p.tree.put(name, n)
	}
	if inode := f.rare().inode; inode != 0 && links != nil {
		if first := links[inode]; first != nil {
			return p.tree.put(name, first)
		}
		links[inode] = n
	}
	return p.tree.put(name, n)
}

// same reports whether n, an unchanged file of the base, is known to equal m.
func (n *node) same(m *node) bool {
	if n.changed || !n.equal(&m.attr) {
		return false
	}
	if n.size == 0 {
		return true
	}
	x, y := n.body.sum(), m.body.sum()
	return x != nil && y != nil && *x == *y
}

// unpack extracts an archive into Dest.
func (p *placer) unpack(ctx context.Context, it *item) error {
	t := p.tree
	dest, err := t.resolve(rootName, p.copy.Dest)
	if err != nil {
		return err
	}
	made := p.made()
	made.mode = defaultDirMode // Chmod does not apply to archives
	if err := t.mkdirAll(dest, made); err != nil {
		return err
	}
	u := unpacker{
		ctx: ctx, tree: t, dest: dest, own: p.own, made: p.copy.Time,
		dir: p.copy.TempDir,
		src: it.file.read,
	}
	err = u.run(it.compression)
	if u.spool != nil {
		p.spools = append(p.spools, u.spool)
	}
	if err != nil {
		return fmt.Errorf("unpack %q: %w", strings.TrimPrefix(show(it.path), "/"), err)
	}
	return nil
}
