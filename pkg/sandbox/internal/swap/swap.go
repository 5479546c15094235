// Package swap exchanges the files of this process's root filesystem with those of a directory, and exchanges them back,
// by renaming alone.
//
// What is a mount, or has to stay where it is, is left there, with the directories around it; what was beside it and
// what comes in its place are exchanged one level further down. So are directories of a lower layer of overlayfs, which
// cannot be renamed: they are taken apart, and put together again afterwards.
//
// A journal in the state directory says at any time how far an exchange has come. After a process has been killed in the
// middle of one, Recover undoes it.
package swap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Spec is an exchange. All paths are absolute and clean, and State and Stage are on the filesystem of Root.
type Spec struct {
	// Root is the directory whose files are put aside.
	Root string
	// State is where the journal is, and the files that are put aside. It and what is in Keep stays in its place.
	State string
	Keep  []string
	// Cover are those of Keep that hide directories of the stage. Of the others, the stage must have none.
	Cover []string
	// Stage is the directory whose files are put in Root.
	Stage string
}

const asideName = "aside"

// Exchange is a Spec at work. Paths in it are relative to the root, "" being the root itself.
type Exchange struct {
	Spec
	journal *journal
	moves   moves
}

func (x *Exchange) at(name string) string    { return filepath.Join(x.Root, name) }
func (x *Exchange) aside(name string) string { return filepath.Join(x.State, asideName, name) }
func (x *Exchange) stage(name string) string { return filepath.Join(x.Stage, name) }

// In puts the files of the stage in the place of the root's. When it fails, what it returns can still be undone, unless it is nil.
func In(s Spec) (*Exchange, error) {
	x := &Exchange{Spec: s, moves: make(moves)}
	if err := x.begin(); err != nil {
		return nil, fmt.Errorf("put files aside: %w", err)
	}
	err := x.dir("", true)
	if err == nil {
		err = x.putAside("")
	}
	if err == nil {
		err = x.noteFiles()
	}
	if err != nil {
		return x, fmt.Errorf("put files aside: %w", err)
	}
	if err = x.journal.add(record{Phase: staged}); err == nil {
		err = x.putInPlace("")
	}
	if err != nil {
		return x, fmt.Errorf("put files in place: %w", err)
	}
	return x, nil
}

func (x *Exchange) begin() error {
	if err := os.MkdirAll(x.aside(""), 0o700); err != nil {
		return err
	}
	names, err := list(x.aside(""))
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("%q is not empty, and there is no journal that says why", x.aside(""))
	}
	x.journal, err = begin(x.Spec)
	return err
}

// putAside puts what is in one directory of the root aside.
func (x *Exchange) putAside(dir string) error {
	names, err := list(x.at(dir))
	if err != nil {
		return err
	}
	for _, base := range names {
		if err := x.putAsideOne(filepath.Join(dir, base)); err != nil {
			return err
		}
	}
	return nil
}

func (x *Exchange) putAsideOne(name string) error {
	if x.kept(name) {
		return nil
	}
	if x.holdsKept(name) {
		mount, err := isMount(x.at(name))
		if err != nil {
			return err
		}
		if mount { // it stays, with all that is in it
			return x.journal.add(record{Stays: name})
		}
		return x.mergeAside(name, true)
	}
	err := os.Rename(x.at(name), x.aside(name))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY): // a mount
		return x.journal.add(record{Stays: name})
	case errors.Is(err, unix.EXDEV):
		return x.mergeAside(name, false)
	}
	return err
}

// mergeAside puts what is in a directory aside, and then the directory itself, unless it has to stay.
func (x *Exchange) mergeAside(name string, stays bool) error {
	if err := x.dir(name, stays); err != nil {
		return err
	}
	if err := os.Mkdir(x.aside(name), 0o700); err != nil {
		return err
	}
	if err := x.putAside(name); err != nil || stays {
		return err
	}
	err := os.Remove(x.at(name))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		return nil // it holds a mount
	}
	return err
}

// dir notes what a directory is like that is merged.
func (x *Exchange) dir(name string, stays bool) error {
	a, err := attributesOf(x.at(name))
	if err != nil {
		return err
	}
	return x.journal.add(record{Dir: &dirRecord{name, stays, *a}})
}

// putInPlace moves what is in a directory of the stage to the root. What is hidden there by something that has stayed
// remains in the stage.
func (x *Exchange) putInPlace(dir string) error {
	a, err := attributesOf(x.stage(dir))
	if err != nil {
		return err
	}
	names, err := list(x.stage(dir))
	if err != nil {
		return err
	}
	for _, base := range names {
		name := filepath.Join(dir, base)
		fi, err := os.Lstat(x.at(name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			err = x.moves.in(x.stage(name), x.at(name))
		case err == nil && fi.IsDir() && x.merged(name) && isDir(x.stage(name)):
			err = x.putInPlace(name)
		case err == nil && fi.IsDir() && isDir(x.stage(name)) && !slices.Contains(x.Cover, x.at(name)):
			err = fmt.Errorf("the root has a directory %q, where this container has files that have to stay: "+
				"move the context or volume, or build with --isolation=chroot", "/"+name)
		}
		if err != nil {
			return err
		}
	}
	return a.apply(x.at(dir))
}

// kept reports whether a path stays in its place whatever is there.
func (x *Exchange) kept(name string) bool {
	return slices.Contains(x.Keep, x.at(name)) || x.at(name) == x.State || slices.Contains(x.journal.stays, name)
}

// holdsKept reports whether something below a path has to stay.
func (x *Exchange) holdsKept(name string) bool {
	below := x.at(name) + "/"
	return strings.HasPrefix(x.State, below) ||
		slices.ContainsFunc(x.Keep, func(keep string) bool { return strings.HasPrefix(keep, below) })
}

// merged reports whether a directory may be there although it was put aside.
func (x *Exchange) merged(name string) bool {
	_, ok := x.journal.dirs[name]
	return ok
}

// isMount reports whether something is mounted on a path.
func isMount(name string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st); err != nil {
		return false, &os.PathError{Op: "statx", Path: name, Err: err}
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	var parent unix.Statx_t // Linux before 5.8
	if err := unix.Statx(unix.AT_FDCWD, filepath.Dir(name), 0, unix.STATX_TYPE, &parent); err != nil {
		return false, &os.PathError{Op: "statx", Path: name, Err: err}
	}
	return st.Dev_major != parent.Dev_major || st.Dev_minor != parent.Dev_minor, nil
}

func list(dir string) ([]string, error) {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func isDir(name string) bool {
	fi, err := os.Lstat(name)
	return err == nil && fi.IsDir()
}
