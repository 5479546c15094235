package swap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
)

// Recover undoes the exchange of which there is a journal in state, as far as it was done; when there is none it does
// nothing. Nothing else may be changing the root.
func Recover(state string) error {
	j, err := resume(state)
	if err != nil || j == nil {
		return wrap("read journal", err)
	}
	x := &Exchange{Spec: *j.spec, journal: j, moves: make(moves)}
	_, err = x.Out()
	return err
}

// Out undoes the exchange, as far as it was done, and returns what nobody has touched of the files that were in place.
func (x *Exchange) Out() (diff.Moved, error) {
	defer x.journal.close()
	if x.journal.phase == staged {
		if err := x.takeOut(""); err != nil {
			return nil, fmt.Errorf("take files out: %w", err)
		}
		if err := x.journal.add(record{Phase: returned}); err != nil {
			return nil, fmt.Errorf("take files out: %w", err)
		}
	}
	if err := errors.Join(x.restoreFiles(), x.putBack("")); err != nil {
		return nil, fmt.Errorf("put files back: %w", err)
	}
	return x.moves.untouched(), wrap("remove journal", os.Remove(x.journal.path))
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// takeOut moves what is in a directory of the root to the stage, but for what has stayed there.
func (x *Exchange) takeOut(dir string) error {
	a, err := attributesOf(x.at(dir))
	if err != nil {
		return err
	}
	names, err := list(x.at(dir))
	if err != nil {
		return err
	}
	for _, base := range names {
		name := filepath.Join(dir, base)
		if x.kept(name) {
			continue
		}
		if isDir(x.at(name)) && x.stayed(name) {
			err = x.takeOut(name)
		} else {
			err = x.takeOutOne(name)
		}
		if err != nil {
			return err
		}
	}
	if !isDir(x.stage(dir)) {
		return nil // nothing of the stage could be there
	}
	return a.apply(x.stage(dir))
}

// stayed reports whether a directory is one that had to stay because of something in it. One of that name that was
// taken apart and removed is the stage's.
func (x *Exchange) stayed(name string) bool {
	d, ok := x.journal.dirs[name]
	return ok && (d.Stays || x.holdsMount(name))
}

// holdsMount reports whether a mount has stayed below a path.
func (x *Exchange) holdsMount(name string) bool {
	for _, s := range x.journal.stays {
		if len(s) > len(name) && s[:len(name)+1] == name+"/" {
			return true
		}
	}
	return false
}

func (x *Exchange) takeOutOne(name string) error {
	dir, err := x.stageDir(filepath.Dir(name))
	if err != nil {
		return err
	}
	return x.moves.out(x.at(name), filepath.Join(dir, filepath.Base(name)))
}

// stageDir returns the directory of the stage that something belongs in which was made in a directory of the root. Where
// the stage has a link that was hidden by a directory that had to stay, it is what the link leads to; where it
// has nothing, it is made.
func (x *Exchange) stageDir(name string) (string, error) {
	stage, err := unix.Open(x.Stage, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: x.Stage, Err: err}
	}
	defer unix.Close(stage)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(stage, name, &how)
	if errors.Is(err, unix.ENOENT) {
		parent, err := x.stageDir(filepath.Dir(name))
		if err != nil {
			return "", err
		}
		dir := filepath.Join(parent, filepath.Base(name))
		return dir, os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return "", &os.PathError{Op: "open", Path: x.stage(name), Err: err}
	}
	defer unix.Close(fd)
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// putBack moves what was put aside back to the root.
func (x *Exchange) putBack(dir string) error {
	names, err := list(x.aside(dir))
	if errors.Is(err, os.ErrNotExist) && dir == "" {
		return nil
	}
	if err != nil {
		return err
	}
	for _, base := range names {
		name := filepath.Join(dir, base)
		if x.merged(name) {
			err = x.putBackDir(name)
		} else {
			err = os.Rename(x.aside(name), x.at(name))
		}
		if err != nil {
			return err
		}
	}
	d, ok := x.journal.dirs[dir]
	if !ok {
		return nil
	}
	return d.Attributes.apply(x.at(dir))
}

func (x *Exchange) putBackDir(name string) error {
	if err := os.Mkdir(x.at(name), 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := x.putBack(name); err != nil {
		return err
	}
	return os.Remove(x.aside(name))
}
