package fileop

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// rootName is the root of a tree, as rootfs names it.
const rootName = "."

// tree is a file tree that is being changed: a base, which is only read, and over it in memory
// what has been looked at or changed. Names are relative and clean, as those of rootfs.Tree. Like the system calls
// that BuildKit makes, methods other than resolve follow no links.
type tree struct {
	base rootfs.Tree // nil: empty
	root *node

	// The directory that was looked up last, for runs of names in one directory. A directory that put replaces is
	// never it: put has just looked up its parent.
	lastName string
	last     *node
}

// node is a file. The names of a hard-linked file share one node. There are hundreds of thousands of them, so that what few
// have is not in it.
type node struct {
	attr
	// children are the files of a directory that have been looked at; the others are in the base.
	children map[string]*node
	// body is nil for what is no regular file, and may be nil for an empty one.
	body body
	// lower is nil where the base has nothing.
	lower *lower

	changed bool // the file differs from the one in base
	placed  bool // by put
	linked  bool // by put, although it had a name: a file with several
	wanted  bool // found by emit: the node, or something below it, is a change
}

// lower is what the base has in the place of a file.
type lower struct {
	// name is the file's own name in the base; empty for files that are made here.
	name string
	// hides says that base has a directory here which is gone, with all that is in it.
	hides bool
	// was is the base's own file in this place, which others may have replaced before.
	was *node
}

// below is what the base has in the place of n, to be read.
func (n *node) below() lower {
	if n.lower == nil {
		return lower{}
	}
	return *n.lower
}

// hide notes that the base has a directory in the place of n.
func (n *node) hide() {
	l := n.below()
	l.hides = true
	n.lower = &l
}

// body is the contents of a regular file.
type body interface {
	read() (io.ReadCloser, error)
	// sum is the digest, nil when it is not known.
	sum() *[sha256.Size]byte
}

// baseFile is a file of the base.
type baseFile struct {
	tree   rootfs.Tree
	name   string
	digest [sha256.Size]byte
}

func (b *baseFile) read() (io.ReadCloser, error) { return b.tree.Open(b.name) }
func (b *baseFile) sum() *[sha256.Size]byte      { return known(&b.digest) }

// known returns nil for a digest that is not known.
func known(digest *[sha256.Size]byte) *[sha256.Size]byte {
	if *digest == [sha256.Size]byte{} {
		return nil
	}
	return digest
}

const xattrPrefix = "SCHILY.xattr."

// keptXattr reports whether an extended attribute belongs to the image rather than to the machine: file
// capabilities do, and what users set. Labels of security modules, ACLs and the marks of
// overlay filesystems do not.
func keptXattr(record string) bool {
	name, ok := strings.CutPrefix(record, xattrPrefix)
	return ok && (name == "security.capability" ||
		strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay."))
}

// update applies f to n and notes whether that changed it. As in BuildKit, the time alone is no change
// of a directory.
func (n *node) update(f func(n *node)) {
	old := n.attr
	f(n)
	if n.isDir() {
		old.setTime(n.time())
	}
	n.changed = n.changed || !n.equal(&old)
}

func newTree(base rootfs.Tree) (*tree, error) {
	t := &tree{base: base, root: &node{attr: attr{typ: tar.TypeDir, mode: defaultDirMode}}}
	if base == nil {
		return t, nil
	}
	t.root.lower = &lower{name: rootName}
	fi, err := base.Lstat(rootName)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read files below: %w", err)
	}
	if e := rootfs.EntryOf(fi); e != nil && e.Header.Typeflag == tar.TypeDir {
		t.root.attr = attrOf(e.Header)
	}
	return t, nil
}

// errNotDir is why a name below a file does not resolve.
func errNotDir(op, name string) error {
	return &fs.PathError{Op: op, Path: show(name), Err: syscall.ENOTDIR}
}

// show returns a name as users write it.
func show(name string) string { return path.Join("/", name) }

// join is path.Join for a clean directory and a single component.
func join(dir, name string) string {
	if dir == rootName {
		return name
	}
	return dir + "/" + name
}

// child returns the file name in dir, or nil when there is none.
func (t *tree) child(dir *node, name string) (*node, error) {
	if n, ok := dir.children[name]; ok {
		return n, nil
	}
	up := dir.below().name
	if up == "" || t.base == nil {
		return nil, nil
	}
	full := join(up, name)
	fi, err := t.base.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read files below: %w", err)
	}
	e := rootfs.EntryOf(fi)
	if e == nil {
		return nil, fmt.Errorf("read files below: %s: no entry", show(full))
	}
	n := &node{attr: attrOf(e.Header), lower: &lower{name: full}}
	if n.typ == tar.TypeReg {
		n.body = &baseFile{tree: t.base, name: full, digest: e.Digest}
	}
	dir.set(name, n)
	return n, nil
}

func (n *node) set(name string, c *node) {
	if n.children == nil {
		n.children = map[string]*node{}
	}
	n.children[name] = c
}

// lookup returns the file name, or nil when there is none. A file in the place of a parent is an error that
// wraps syscall.ENOTDIR.
func (t *tree) lookup(name string) (*node, error) {
	if name == rootName {
		return t.root, nil
	}
	dir, err := t.lookupDir(parentOf(name))
	if err != nil || dir == nil {
		return nil, err
	}
	if !dir.isDir() {
		return nil, errNotDir("lstat", name)
	}
	return t.child(dir, path.Base(name))
}

// lookupDir is lookup for a name that is asked for again and again.
func (t *tree) lookupDir(name string) (*node, error) {
	if t.last != nil && t.lastName == name {
		return t.last, nil
	}
	n, err := t.lookup(name)
	if err == nil && n != nil {
		t.lastName, t.last = name, n
	}
	return n, err
}

// parentOf is path.Dir for a clean relative name.
func parentOf(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return rootName
}

// maxName is how long a component of a name may be, in bytes.
const maxName = 255

// put makes name the file n, replacing what was there. The parent must be a directory.
func (t *tree) put(name string, n *node) error {
	base := path.Base(name)
	if len(base) > maxName {
		return &fs.PathError{Op: "create", Path: show(name), Err: syscall.ENAMETOOLONG}
	}
	if strings.Contains(base, "\x00") {
		return &fs.PathError{Op: "create", Path: show(name), Err: syscall.EINVAL}
	}
	dir, err := t.lookupDir(parentOf(name))
	if err != nil {
		return err
	}
	if dir == nil {
		return &fs.PathError{Op: "create", Path: show(name), Err: fs.ErrNotExist}
	}
	if !dir.isDir() {
		return errNotDir("create", name)
	}
	old, err := t.child(dir, base)
	if err != nil {
		return err
	}
	if old != nil && (old.below().hides || old.isDir() && old.below().name != "") {
		n.hide()
	}
	n.changed = true
	n.noteReplaced(old)
	dir.set(strings.Clone(base), n) // which does not keep all of the name
	return nil
}

// noteReplaced notes which file of the base n takes the place of, so that one that is put back is no change. A file with
// several names is not looked at.
func (n *node) noteReplaced(old *node) {
	n.linked = n.placed || n.below().name != ""
	var was *node
	switch {
	case n.placed || old == nil:
	case old.changed:
		was = old.below().was
	default:
		was = old
	}
	if n.lower != nil || was != nil {
		l := n.below()
		l.was = was
		n.lower = &l
	}
	n.placed = true
}

// maxLinks is how many links may be followed for one name, as in rootfs.Resolve.
const maxLinks = 255

// resolve follows all links in name as a process chrooted into the directory root would. The
// result is relative to the root of the tree, and need not exist. Parents that are files are an error.
func (t *tree) resolve(root, name string) (string, error) {
	cur, rest := root, name
	for links := 0; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			if cur != root {
				cur = parentOf(cur)
			}
			continue
		}
		next := join(cur, part)
		n, err := t.lookup(next)
		if err != nil {
			return "", err
		}
		if n == nil || n.typ != tar.TypeSymlink {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: show(name), Err: syscall.ELOOP}
		}
		link := n.rare().link
		if path.IsAbs(link) {
			cur = root
		}
		rest = link + "/" + rest
	}
	return cur, nil
}

// dirAttr says how directories are made.
type dirAttr struct {
	mode  uint16
	owner *owner // nil: as the kernel does for root
	mtime time.Time
}

// mkdirAll makes the directory name and its parents where missing; links are not followed. As
// under Linux, a directory made in one with the setgid bit takes over that bit and, without an
// owner of its own, the group.
func (t *tree) mkdirAll(name string, a dirAttr) error {
	n, err := t.lookup(name)
	if errors.Is(err, syscall.ENOTDIR) {
		n, err = nil, nil // report the parent that is none
	}
	if err != nil {
		return err
	}
	if n != nil {
		if !n.isDir() {
			return errNotDir("mkdir", name)
		}
		return nil
	}
	up := parentOf(name)
	if err := t.mkdirAll(up, a); err != nil {
		return err
	}
	dir, err := t.lookup(up)
	if err != nil {
		return err
	}
	n = &node{attr: attr{typ: tar.TypeDir, mode: a.mode & modePerm}}
	n.setTime(a.mtime)
	if dir.mode&modeSetgid != 0 {
		n.mode |= modeSetgid
		n.gid = dir.gid
	}
	if a.owner != nil {
		n.setOwner(a.owner)
	}
	return t.put(name, n)
}
