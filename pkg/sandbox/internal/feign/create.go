package feign

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
)

// Files that a process makes as another user than root are made for it, so that their owner can be noted. The kernel makes
// all others.

// making is a file to be made in a directory.
type making struct {
	*request
	who    Identity
	parent int
	base   string
}

// make calls f to make the file of that path, unless the kernel is to do it.
func (r *request) make(dir, name int, f func(m making) answer) answer {
	who := r.who()
	if who.User.Files == 0 && who.Group.Files == 0 {
		return proceed()
	}
	path, err := r.string(name)
	if err != nil {
		return proceed()
	}
	parent, base, ok := r.parent(dir, strings.TrimRight(path, "/"))
	if !ok {
		return proceed()
	}
	defer unix.Close(parent)
	if !r.valid() {
		return proceed()
	}
	return f(making{r, who, parent, base})
}

// masked is a mode without what the caller's umask takes away.
func (r *request) masked(mode uint32) uint32 {
	mask, err := strconv.ParseUint(r.status("Umask"), 8, 32)
	if err != nil {
		mask = 0o022
	}
	return mode &^ uint32(mask)
}

// owned notes who has made the file, and is in the end what becomes of the call.
func (m making) owned(err error) answer {
	if err != nil {
		return failed(err)
	}
	fd, err := unix.Openat(m.parent, m.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	if err := m.own(fd); err != nil {
		return failed(err)
	}
	return done()
}

// own notes on an open file that the caller has made it. In a directory whose group is handed down it belongs to that.
func (m making) own(fd int) error {
	var st, in unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Fstat(m.parent, &in)); err != nil {
		return err
	}
	o := mark.Owner{UID: int(m.who.User.Files), GID: int(m.who.Group.Files)}
	if in.Mode&unix.S_ISGID != 0 {
		o.GID = m.session.ownerOf(m.parent, &in).GID
	}
	return m.session.files.own(fd, st.Mode, o)
}

func (r *request) mkdir(dir, name int, mode uint32) answer {
	return r.make(dir, name, func(m making) answer {
		return m.owned(unix.Mkdirat(m.parent, m.base, m.masked(mode)))
	})
}

// mknod leaves devices, of which the step may make none, to the kernel.
func (r *request) mknod(dir, name int, mode uint32) answer {
	if kind := mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		return proceed()
	}
	return r.make(dir, name, func(m making) answer {
		return m.owned(unix.Mknodat(m.parent, m.base, m.masked(mode), 0))
	})
}

func (r *request) symlink(target, dir, name int) answer {
	to, err := r.string(target)
	if err != nil {
		return proceed()
	}
	return r.make(dir, name, func(m making) answer {
		return m.owned(unix.Symlinkat(to, m.parent, m.base))
	})
}

// openat2 has flags and mode in memory.
func (r *request) openat2() answer {
	var how [3 * 8]byte // flags, mode, resolve
	if err := r.read(r.arg(2), how[:]); err != nil {
		return proceed()
	}
	flags, mode := binary.NativeEndian.Uint64(how[:]), binary.NativeEndian.Uint64(how[8:])
	if flags&makesFile == 0 || binary.NativeEndian.Uint64(how[16:]) != 0 {
		return proceed()
	}
	return r.openFile(r.fd(0), 1, flags, uint32(mode)) //nolint:gosec // it has a few bits
}

// openFile opens a file that is not there yet; others the kernel opens.
func (r *request) openFile(dir, name int, flags uint64, mode uint32) answer {
	if flags&unix.O_PATH != 0 {
		return proceed()
	}
	if flags&tmpfile != 0 {
		return r.openUnnamed(dir, name, flags, mode)
	}
	return r.make(dir, name, func(m making) answer {
		if flags&unix.O_EXCL == 0 && m.exists() {
			return proceed()
		}
		how := int(flags) | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC //nolint:gosec // flags are small
		fd, err := unix.Openat(m.parent, m.base, how, m.masked(mode)&0o7777)
		if errors.Is(err, unix.EEXIST) && flags&unix.O_EXCL == 0 {
			return proceed() // somebody else has made it
		}
		return m.opened(fd, err, flags)
	})
}

// opened hands a file over that has been made.
func (m making) opened(fd int, err error, flags uint64) answer {
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	if err := m.own(fd); err != nil {
		return failed(err)
	}
	return m.give(fd, flags&unix.O_CLOEXEC != 0)
}

// exists reports whether there is a file, or a link, of that name.
func (m making) exists() bool {
	var st unix.Stat_t
	return !errors.Is(unix.Fstatat(m.parent, m.base, &st, unix.AT_SYMLINK_NOFOLLOW), unix.ENOENT)
}

// openUnnamed makes a file that has no name, in a directory.
func (r *request) openUnnamed(dir, name int, flags uint64, mode uint32) answer {
	who := r.who()
	if who.User.Files == 0 && who.Group.Files == 0 {
		return proceed()
	}
	path, err := r.string(name)
	if err != nil {
		return proceed()
	}
	parent, err := r.open(dir, path, true)
	if err != nil || !r.valid() {
		return proceed()
	}
	defer unix.Close(parent)
	fd, err := unix.Open(descriptor(parent), int(flags)|unix.O_CLOEXEC, r.masked(mode)&0o7777) //nolint:gosec // flags are small
	return making{r, who, parent, ""}.opened(fd, err, flags)
}
