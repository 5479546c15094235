package rootfs

import (
	"errors"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// open opens name beneath the root, following no link in any component.
func (t *diskTree) open(name string, flags int) (fd int, err error) {
	defer runtime.KeepAlive(t) // and with it rootFD
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	if !t.plain.Load() {
		fd, err = t.openat2(name, flags)
		switch {
		case errors.Is(err, unix.ENOSYS):
			t.plain.Store(true)
		case errors.Is(err, unix.EPERM) && flags&unix.O_NOATIME == 0:
			// Old seccomp profiles refuse calls that they do not know in this way. Whether
			// it was that, the walk will tell.
		case errors.Is(err, unix.ENAMETOOLONG):
			// The walk takes names of any length.
		default:
			return fd, err
		}
	}
	return t.walkTo(name, flags)
}

func (t *diskTree) openat2(name string, flags int) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err = unix.Openat2(t.rootFD, name, &how)
		// EAGAIN: something was renamed meanwhile, so that the kernel could not be sure.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// walkTo is open without openat2: it goes down a directory at a time.
func (t *diskTree) walkTo(name string, flags int) (int, error) {
	at := t.rootFD
	for {
		part, rest, more := strings.Cut(name, "/")
		f := flags
		if more {
			f = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		fd, err := openat(at, part, f)
		if at != t.rootFD {
			unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, name = fd, rest
	}
}

func openat(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
