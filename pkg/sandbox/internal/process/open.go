package process

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// openIn opens a file of any type by its path in root. Links are followed as if root were the root of the
// filesystem, whatever others do to them meanwhile. The error for a file that is not there wraps unix.ENOENT.
func openIn(root, name string) (int, error) {
	dir, err := openPath(root)
	if err != nil {
		return -1, fmt.Errorf("open %q: %w", root, err)
	}
	defer unix.Close(dir)
	name = path.Join("/", name)
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range 100 {
		fd, err := unix.Openat2(dir, name, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EAGAIN): // something was renamed meanwhile
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			return -1, notFound(name)
		case errors.Is(err, unix.ENOSYS):
			return -1, fmt.Errorf("open %q: the kernel cannot confine a path: mounts of files need Linux 5.6: %w", name, err)
		default:
			return -1, fmt.Errorf("open %q: %w", name, err)
		}
	}
	return -1, fmt.Errorf("open %q: files are being renamed all the time: %w", name, unix.EAGAIN)
}

// notFound is the path of a file that is not there. The error reads as BuildKit's does.
type notFound string

func (e notFound) Error() string { return fmt.Sprintf("%q: not found", string(e)) }

// Unwrap makes it fs.ErrNotExist, on the other side of a connection as well.
func (e notFound) Unwrap() error { return unix.ENOENT }

func openPath(name string) (int, error) {
	return unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}
