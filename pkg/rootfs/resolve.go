package rootfs

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// maxLinks is how many links one resolution follows before it is taken for a loop, as in
// securejoin; Linux stops at 40, which legal images with long chains of alternatives have passed.
const maxLinks = 255

// Resolve follows every symbolic link in name, the last component included, as a process
// chrooted into t would: absolute targets start at the root of t and ".." never leads above it. name may be
// absolute or relative; both start at the root.
//
// Components that do not exist are kept as they are, so the result may name a file that is yet to
// be made. The result is clean and relative, and "." for the root. More than 255 links end in an
// error that wraps syscall.ELOOP, and a file that stands where a directory has to be in one that
// wraps syscall.ENOTDIR.
func Resolve(t Tree, name string) (string, error) {
	return resolve(t, name, true)
}

// ResolveParent is [Resolve] for all components but the last, which is kept even when it is a
// link. A last component "." or ".." is resolved, since it names a directory.
func ResolveParent(t Tree, name string) (string, error) {
	return resolve(t, name, false)
}

func resolve(t Tree, name string, last bool) (string, error) {
	// Most names have no links, which one look-up tells: it fails when a parent is one.
	if clean := strings.TrimLeft(name, "/"); valid(clean) {
		fi, err := t.Lstat(clean)
		if err == nil && (!last || fi.Mode()&fs.ModeSymlink == 0) {
			return clean, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	w := walker{tree: t, name: name, at: "."}
	return w.walk(name, last)
}

// walker is the state of one resolution.
type walker struct {
	tree  Tree
	name  string
	at    string // resolved so far; free of links
	gone  bool   // at does not exist, so nothing below it does
	links int
}

func (w *walker) walk(rest string, last bool) (string, error) {
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			w.up()
			continue
		}
		rest = strings.TrimLeft(rest, "/")
		next := join(w.at, part)
		if w.gone || (rest == "" && !last) {
			w.at = next
			continue
		}
		target, err := w.step(next, rest)
		if err != nil {
			return "", err
		}
		if target == "" {
			continue
		}
		if w.links++; w.links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: w.name, Err: syscall.ELOOP}
		}
		if target[0] == '/' {
			w.at = "."
		}
		// A link at the end of the parents is followed even when the last component is not.
		if rest != "" {
			target += "/" + rest
		}
		rest = target
	}
	return w.at, nil
}

// step looks at next, which lies in w.at, and returns its target when it is a link.
// Otherwise it moves to it.
func (w *walker) step(next, rest string) (target string, err error) {
	fi, err := w.tree.Lstat(next)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.gone = true
	case err != nil:
		return "", err
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := w.tree.ReadLink(next)
		if err != nil {
			return "", err
		}
		if target == "" {
			return "", &fs.PathError{Op: "resolve", Path: w.name, Err: fs.ErrNotExist}
		}
		return target, nil
	case !fi.IsDir() && rest != "":
		return "", &fs.PathError{Op: "resolve", Path: w.name, Err: syscall.ENOTDIR}
	}
	w.at = next
	return "", nil
}

// up moves to the parent of w.at, and stays at the root.
func (w *walker) up() {
	if w.at == "." {
		return
	}
	w.at, _ = split(w.at)
	if w.gone {
		// The parent may be the last one that exists.
		_, err := w.tree.Lstat(w.at)
		w.gone = err != nil
	}
}

// Walk calls visit for name and everything below it: parents before their children, siblings in
// bytewise order of their names. It follows no link. An error from visit ends the walk, but
// fs.SkipDir, which leaves out what is below that directory.
func Walk(t Tree, name string, visit func(name string, e *Entry) error) error {
	fi, err := t.Lstat(name)
	if err != nil {
		return err
	}
	return walk(t, name, fi, visit)
}

func walk(t Tree, name string, fi fs.FileInfo, visit func(name string, e *Entry) error) error {
	err := visit(name, EntryOf(fi))
	if errors.Is(err, fs.SkipDir) {
		return nil // also for a file, whose siblings it does not skip
	}
	if err != nil || !fi.IsDir() {
		return err
	}
	list, err := t.ReadDir(name)
	if err != nil {
		return err
	}
	for _, d := range list {
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if err := walk(t, join(name, d.Name()), fi, visit); err != nil {
			return err
		}
	}
	return nil
}
