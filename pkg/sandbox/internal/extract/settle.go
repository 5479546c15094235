package extract

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
)

// Unsettled reports whether Finish will need to know the layers below.
func (x *Extractor) Unsettled() bool { return !x.o.Flat && len(x.implicit)+len(x.links) > 0 }

// Finish completes the layer. lower is what lies below it; it is not used when Unsettled is
// false, and may be nil.
//
// A parent directory that the layer does not name gets the attributes that it has below. When
// below it is a link to a directory, what the layer has in it goes where the link leads. A hard
// link to a file of a lower layer takes a copy of that file along.
func (x *Extractor) Finish(lower *union.View) error {
	if x.Unsettled() && lower != nil {
		root, err := lower.Root()
		if err != nil {
			return err
		}
		if err := x.settleDirs(root); err != nil {
			return err
		}
		if err := x.settleLinks(root); err != nil {
			return err
		}
	}
	if len(x.links) > 0 {
		l := x.links[0]
		return fmt.Errorf("extract %q: link to %q, which does not exist", l.name, l.target)
	}
	return x.setDirTimes()
}

// settleDirs does so for implicit directories, parents first, until there are no new ones: moving files may
// make some.
func (x *Extractor) settleDirs(root *union.Node) error {
	settled := make(map[string]bool)
	for {
		names := slices.Sorted(maps.Keys(x.implicit))
		i := slices.IndexFunc(names, func(name string) bool { return !settled[name] })
		if i < 0 {
			return nil
		}
		settled[names[i]] = true
		if err := x.settleDir(root, names[i]); err != nil {
			return fmt.Errorf("extract %q: %w", names[i], err)
		}
	}
}

func (x *Extractor) settleDir(root *union.Node, name string) error {
	if hidden, err := x.hidden(name); hidden || err != nil {
		return err
	}
	below, err := find(root, name)
	if err != nil || below == nil {
		return err
	}
	switch below.Stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return x.adopt(name, below)
	case unix.S_IFLNK:
		return x.redirect(name, below)
	}
	return nil // a file, which the directory replaces
}

// hidden reports whether this layer itself hides the directory of that name below.
func (x *Extractor) hidden(name string) (bool, error) {
	if x.replaced[name] {
		return true, nil
	}
	for name = path.Dir(name); name != "."; name = path.Dir(name) {
		in, err := x.tree.dir(name)
		if err != nil {
			return false, err
		}
		if opaque, err := union.IsOpaque(procPath(in.fd, "."), x.o.UserXattr); opaque || err != nil {
			return opaque, err
		}
	}
	return false, nil
}

// find looks a path up without following links. It returns nil when there is nothing.
func find(root *union.Node, name string) (*union.Node, error) {
	n := root
	for part := range strings.SplitSeq(name, "/") {
		var err error
		if n, err = n.Lookup(part); n == nil || err != nil {
			return nil, err
		}
	}
	return n, nil
}

// adopt gives an implicit directory the attributes of the one below it.
func (x *Extractor) adopt(name string, below *union.Node) error {
	parent, err := x.tree.dir(clean(path.Dir(name)))
	if err != nil {
		return err
	}
	h, err := inode.Header(below.Path, name, &below.Stat)
	if err != nil {
		return err
	}
	x.dirTimes[name] = dirTime{h.ModTime, true}
	return x.attributes(parent, path.Base(name), h)
}

// redirect moves what is in an implicit directory to where the link leads that is there below.
func (x *Extractor) redirect(name string, below *union.Node) error {
	target, err := os.Readlink(below.Path)
	if err != nil {
		return err
	}
	in, err := x.tree.dir(clean(path.Dir(name)))
	if err != nil {
		return err
	}
	// The directory makes room for the link while its target is looked for, as the target may lead over it.
	const aside = ".wh.redirected"
	if err := unix.Renameat(in.fd, path.Base(name), in.fd, aside); err != nil {
		return err
	}
	x.tree.forget()
	delete(x.implicit, name)
	delete(x.dirTimes, name)
	x.moveKeys(name, in.join(aside))
	if !path.IsAbs(target) {
		target = in.path + "/" + target
	}
	to, err := x.tree.dir(target)
	if err != nil {
		return err
	}
	if err := x.merge(in.join(aside), to.path); err != nil {
		return err
	}
	return x.removeDir(in.join(aside))
}

// removeDir removes a directory that has been emptied.
func (x *Extractor) removeDir(name string) error {
	x.tree.forget()
	in, err := x.tree.dir(clean(path.Dir(name)))
	if err != nil {
		return err
	}
	return unix.Unlinkat(in.fd, path.Base(name), unix.AT_REMOVEDIR)
}

// merge moves all that is in directory from into directory to. Where both have a file the one that was there
// stays, as it was named by its own path.
func (x *Extractor) merge(from, to string) error {
	src, err := x.tree.dir(from)
	if err != nil {
		return err
	}
	names, err := list(src.fd)
	if err != nil {
		return err
	}
	if err := x.moveOpaque(src, to); err != nil {
		return err
	}
	for _, base := range names {
		if err := x.move(from, to, base); err != nil {
			return err
		}
	}
	return nil
}

// moveOpaque lets directory to hide what is below it when from does.
func (x *Extractor) moveOpaque(from place, to string) error {
	opaque, err := union.IsOpaque(procPath(from.fd, "."), x.o.UserXattr)
	if err != nil || !opaque {
		return err
	}
	dst, err := x.tree.dir(to)
	if err != nil {
		return err
	}
	return x.opaque(dst)
}

func (x *Extractor) move(from, to, base string) error {
	x.tree.forget()
	src, err := x.tree.dir(from)
	if err != nil {
		return err
	}
	dst, err := x.tree.dir(to)
	if err != nil {
		return err
	}
	oldName, newName := src.join(base), dst.join(base)
	var a, b unix.Stat_t
	if err := unix.Fstatat(src.fd, base, &a, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if unix.Fstatat(dst.fd, base, &b, unix.AT_SYMLINK_NOFOLLOW) != nil {
		x.moveKeys(oldName, newName)
		return unix.Renameat(src.fd, base, dst.fd, base)
	}
	if a.Mode&unix.S_IFMT != unix.S_IFDIR || b.Mode&unix.S_IFMT != unix.S_IFDIR {
		return x.remove(src, base, a.Mode)
	}
	if err := x.merge(oldName, newName); err != nil {
		return err
	}
	forgetBelow(x.implicit, oldName)
	forgetBelow(x.dirTimes, oldName)
	return x.removeDir(oldName)
}

// moveKeys lets what is remembered of a directory and all below it follow a move.
func (x *Extractor) moveKeys(from, to string) {
	rename(x.implicit, from, to)
	rename(x.replaced, from, to)
	rename(x.dirTimes, from, to)
	for i := range x.links {
		if rest, ok := strings.CutPrefix(x.links[i].name, from+"/"); ok {
			x.links[i].name = to + "/" + rest
		}
	}
}

func rename[V any](m map[string]V, from, to string) {
	for _, name := range slices.Collect(maps.Keys(m)) {
		if rest, ok := strings.CutPrefix(name, from); ok && (rest == "" || rest[0] == '/') {
			m[to+rest] = m[name]
			delete(m, name)
		}
	}
}

// settleLinks copies the files of lower layers to which this one has hard links, as a container engine does when it
// links them on an overlay.
func (x *Extractor) settleLinks(root *union.Node) error {
	for len(x.links) > 0 {
		l := x.links[0]
		below, err := find(root, l.target)
		if err != nil || below == nil {
			return err // what is missing is reported by Finish
		}
		if err := x.copyUp(root, l.target, below); err != nil {
			return fmt.Errorf("extract %q: copy %q of a lower layer: %w", l.name, l.target, err)
		}
		x.links = x.links[1:]
		h := *l.header
		h.Linkname = l.target
		in, err := x.tree.dir(clean(path.Dir(l.name)))
		if err != nil {
			return err
		}
		if err := x.file(in, path.Base(l.name), &h, nil); err != nil {
			return fmt.Errorf("extract %q: %w", l.name, err)
		}
	}
	return nil
}

// copyUp writes a lower layer's file into this one, unless that happened for another link.
func (x *Extractor) copyUp(root *union.Node, name string, below *union.Node) error {
	h, err := inode.Header(below.Path, name, &below.Stat)
	if err != nil {
		return err
	}
	var body io.Reader
	if h.Typeflag == tar.TypeReg {
		f, err := os.Open(below.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		body = f
	}
	in, err := x.tree.dir(clean(path.Dir(name)))
	if err != nil {
		return err
	}
	if unix.Faccessat(in.fd, path.Base(name), unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return nil
	}
	if err := x.settleDirs(root); err != nil {
		return err
	}
	if in, err = x.tree.dir(clean(path.Dir(name))); err != nil {
		return err
	}
	return x.file(in, path.Base(name), h, body)
}

// setDirTimes gives all directories their times, now that nothing will be made in them.
func (x *Extractor) setDirTimes() error {
	for name, t := range x.dirTimes {
		in, err := x.tree.dir(name)
		if err != nil {
			return fmt.Errorf("extract %q: %w", name, err)
		}
		when := t.time
		if !t.given {
			when = time.Unix(0, 0)
		}
		if err := setTime(in.fd, ".", when); err != nil {
			return fmt.Errorf("extract %q: %w", name, err)
		}
	}
	return nil
}
