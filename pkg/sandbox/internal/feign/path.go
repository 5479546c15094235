package feign

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is a file as this process reaches it.
type place struct {
	// name leads to it; the last link is followed if follow is set.
	name   string
	follow bool
	// fd, unless it is -1, is open.
	fd int
}

func (p *place) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
}

// openedPlace is an open file.
func openedPlace(fd int) place { return place{descriptor(fd), true, fd} }

// descriptor is the name of a file that this process has open.
func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// flags are AT_SYMLINK_NOFOLLOW or none.
func (p *place) flags() int {
	if p.follow {
		return 0
	}
	return unix.AT_SYMLINK_NOFOLLOW
}

// wander notes that paths no longer mean the same to all.
func (r *request) wander() answer {
	r.session.wandered.Store(true)
	return proceed()
}

// look finds a file that is only going to be looked at. What it finds in /proc, where links lead to what others have open, may be
// something else.
func (r *request) look(dir int, name string, follow bool) (place, error) {
	if r.session.wandered.Load() {
		fd, err := r.open(dir, name, follow)
		if err != nil {
			return place{}, err
		}
		return openedPlace(fd), nil
	}
	name = r.ownProc(name)
	switch {
	case name == "":
		return place{r.base(dir), true, -1}, nil
	case name[0] == '/':
		return place{name, follow, -1}, nil
	}
	return place{r.base(dir) + "/" + name, follow, -1}, nil
}

// base is the directory at which a relative path of the caller's starts, or the file itself that it has open.
func (r *request) base(dir int) string {
	if dir == unix.AT_FDCWD {
		return r.proc() + "/cwd"
	}
	return r.proc() + "/fd/" + strconv.Itoa(dir)
}

// ownProc is a path that means the same here as to the caller when it begins in /proc.
func (r *request) ownProc(name string) string {
	if !strings.HasPrefix(name, "/proc/") {
		return name
	}
	for _, self := range []string{"/proc/self/", "/proc/thread-self/"} {
		if rest, ok := strings.CutPrefix(name, self); ok {
			return r.proc() + "/" + rest
		}
	}
	return name
}

// standard are the names of standard streams.
func standard(name string) (fd int, ok bool) {
	switch name {
	case "/dev/stdin":
		return 0, true
	case "/dev/stdout":
		return 1, true
	case "/dev/stderr":
		return 2, true
	}
	return 0, false
}

// ownDescriptor recognizes the path of a file that the caller has open.
func (r *request) ownDescriptor(name string) (fd int, ok bool) {
	if fd, ok := standard(name); ok {
		return fd, true
	}
	for _, dir := range []string{"/dev/fd/", r.proc() + "/fd/"} {
		if rest, found := strings.CutPrefix(r.ownProc(name), dir); found {
			fd, err := strconv.Atoi(rest)
			return fd, err == nil && fd >= 0
		}
	}
	return 0, false
}

// open opens a file by a path of the caller's, only to say which file it is. An empty name is what dir is. It follows no link in
// /proc: what this process has open, such as its own program, must not be reached by them.
func (r *request) open(dir int, name string, follow bool) (int, error) {
	if fd, ok := r.ownDescriptor(name); ok && follow {
		dir, name = fd, ""
	}
	if name == "" {
		return unix.Open(r.base(dir), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	root := "/"
	if r.session.wandered.Load() {
		mounts, err := readlink(r.proc() + "/ns/mnt")
		if err != nil {
			return -1, err
		}
		if mounts != r.session.mounts {
			return -1, unix.EXDEV // its files are none of ours
		}
		if root, err = readlink(r.proc() + "/root"); err != nil {
			return -1, err
		}
	}
	if root != "/" {
		return r.openIn(root, dir, name, how)
	}
	if name[0] == '/' {
		return unix.Openat2(unix.AT_FDCWD, r.ownProc(name), &how)
	}
	from, err := unix.Open(r.base(dir), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(from)
	return unix.Openat2(from, name, &how)
}

// openIn opens a file for a process whose root directory is root.
func (r *request) openIn(root string, dir int, name string, how unix.OpenHow) (int, error) {
	from, err := unix.Open(r.proc()+"/root", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(from)
	if name[0] != '/' {
		at, err := readlink(r.base(dir))
		if err != nil {
			return -1, err
		}
		below, ok := strings.CutPrefix(at, root)
		if !ok || below != "" && below[0] != '/' {
			return -1, unix.EXDEV // it has a directory open that is not in its root
		}
		name = below + "/" + name
	}
	how.Resolve |= unix.RESOLVE_IN_ROOT
	return unix.Openat2(from, name, &how)
}

func readlink(name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(name, buf[:])
	return string(buf[:max(n, 0)]), err
}

// parent opens the directory in which a file is to be made, and returns the name that the file gets there. ok is false for paths
// that name no file that could be made.
func (r *request) parent(dir int, name string) (fd int, base string, ok bool) {
	in, base := path.Split(name)
	if base == "" || base == "." || base == ".." {
		return -1, "", false
	}
	fd, err := r.open(dir, in, true)
	return fd, base, err == nil
}
