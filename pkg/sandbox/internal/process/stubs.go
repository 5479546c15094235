package process

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// stubs are the files and directories that had to be made in the root to mount something on them. BuildKit removes
// those for the mounts of a step, with their parents, when they have remained empty, but leaves those for /proc, /dev
// and /sys; so do we. It also leaves those that were made in what is mounted: in a cache others may be using them.
type stubs struct {
	missing []string // resolved, each before its parents
	mounts  []string
}

// expect notes what the root does not have of the paths of mounts, before anything is mounted.
func (s *stubs) expect(mounts []Mount) {
	for _, m := range mounts {
		at, err := resolve(m.Target)
		if err != nil {
			continue // the mount will tell
		}
		for ; at != "/"; at = path.Dir(at) {
			if _, err := os.Lstat(at); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
				break
			}
			s.missing = append(s.missing, at)
		}
	}
}

// mounted notes that something was mounted on path.
func (s *stubs) mounted(path string) { s.mounts = append(s.mounts, path) }

// remove removes the stubs. It is called when no process of the step is left.
func (s *stubs) remove() error {
	if len(s.missing) == 0 {
		return nil
	}
	all := append([]string{"/dev", "/proc", "/sys"}, s.mounts...)
	for _, at := range slices.Backward(all) {
		if !s.covered(at) {
			continue
		}
		err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !gone(err) {
			return fmt.Errorf("unmount %q: %w", at, err)
		}
	}
	for _, at := range s.missing {
		if err := removeStub(at); err != nil {
			return fmt.Errorf("remove mount point %q: %w", at, err)
		}
	}
	return nil
}

// covered reports whether a mount on at is in the way to something that is to be removed.
func (s *stubs) covered(at string) bool {
	return slices.ContainsFunc(s.missing, func(missing string) bool {
		return missing == at || strings.HasPrefix(missing, at+"/")
	})
}

// removeStub removes an empty file or directory.
func removeStub(at string) error {
	parent := path.Dir(at)
	now, err := resolve(parent)
	switch {
	case gone(err), err == nil && now != parent:
		return nil // the step has put a link there
	case err != nil:
		return err
	}
	fi, err := os.Lstat(at)
	if gone(err) {
		return nil // it was never made, or the step has removed what it was in
	}
	if err != nil {
		return err
	}
	if !fi.IsDir() && (!fi.Mode().IsRegular() || fi.Size() != 0) {
		return nil // the step has put something in its place
	}
	err = keepTimes(parent, func() error { return os.Remove(at) })
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// gone reports whether an error says that a path leads nowhere any more, whatever the step has made of it.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// makeStub makes an empty file or directory with its parents, unless there is something.
func makeStub(at string, dir bool) error {
	if _, err := os.Lstat(at); err == nil {
		return nil
	}
	parent := path.Dir(at)
	if err := makeStub(parent, true); err != nil {
		return err
	}
	return keepTimes(parent, func() error { return makeEmpty(at, dir) })
}

// keepTimes keeps the times of a directory in which change makes or removes something.
func keepTimes(dir string, change func() error) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
