package process

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// stubs are the files and directories that had to be made to mount something on them. BuildKit removes
// those for resolv.conf, hosts and files of the step, with their parents, when they have remained
// empty, but leaves those for /proc, /dev and /sys; so do we.
type stubs struct {
	missing []string // resolved, each before its parents
	mounts  []string
}

// expect notes what is missing of the files' paths before anything is mounted.
func (s *stubs) expect(files []File) {
	for _, f := range files {
		at, err := resolve(f.Path)
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

// mounted notes that a file was mounted on path.
func (s *stubs) mounted(path string) { s.mounts = append(s.mounts, path) }

// remove removes the stubs. It is called when no process of the step is left.
func (s *stubs) remove() error {
	if len(s.missing) == 0 {
		return nil
	}
	for _, at := range slices.Backward(append(s.mounts, "/sys", "/proc", "/dev")) {
		if !slices.Contains(s.missing, at) {
			continue
		}
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
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

// removeStub removes an empty file or directory and keeps the time of the directory it is in.
func removeStub(at string) error {
	fi, err := os.Lstat(at)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil // it was never made, or the step has removed what it was in
	}
	if err != nil {
		return err
	}
	if !fi.IsDir() && (!fi.Mode().IsRegular() || fi.Size() != 0) {
		return nil // the step has put something in its place
	}
	var parent unix.Stat_t
	if err := unix.Lstat(path.Dir(at), &parent); err != nil {
		return err
	}
	err = os.Remove(at)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path.Dir(at), []unix.Timespec{parent.Atim, parent.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
