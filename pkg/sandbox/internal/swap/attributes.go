package swap

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
)

// attributes are those of a directory, which are exchanged where the directory itself cannot be.
type attributes struct {
	Mode, UID, GID uint32
	Atime, Mtime   unix.Timespec
	Xattrs         map[string][]byte `json:",omitempty"`
}

func attributesOf(dir string) (*attributes, error) {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	xattrs, err := inode.Xattrs(dir)
	if err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: dir, Err: err}
	}
	a := &attributes{Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Atime: st.Atim, Mtime: st.Mtim, Xattrs: make(map[string][]byte)}
	for name, value := range xattrs {
		a.Xattrs[name] = []byte(value)
	}
	return a, nil
}

// apply makes a directory like the one that was described. Times come last.
func (a *attributes) apply(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	now, err := attributesOf(dir)
	if err != nil {
		return err
	}
	if err := a.applyXattrs(fd, now); err != nil {
		return fmt.Errorf("set attributes of %q: %w", dir, err)
	}
	if now.UID != a.UID || now.GID != a.GID {
		if err := unix.Fchown(fd, int(a.UID), int(a.GID)); err != nil {
			return &os.PathError{Op: "chown", Path: dir, Err: err}
		}
	}
	if err := unix.Fchmod(fd, a.Mode); err != nil {
		return &os.PathError{Op: "chmod", Path: dir, Err: err}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{a.Atime, a.Mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

func (a *attributes) applyXattrs(fd int, now *attributes) error {
	for name := range now.Xattrs {
		if _, ok := a.Xattrs[name]; !ok {
			if err := unix.Fremovexattr(fd, name); err != nil {
				return err
			}
		}
	}
	for name, value := range a.Xattrs {
		if string(now.Xattrs[name]) == string(value) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, value, 0); err != nil {
			return err
		}
	}
	return nil
}
