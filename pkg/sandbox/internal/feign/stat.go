package feign

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// statPath is stat with its path and buffer in arguments.
func (r *request) statPath(dir, name, buf, flags int) answer {
	path, err := r.string(name)
	if err != nil || path == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return proceed()
	}
	return r.stat(dir, path, buf, flags)
}

// stat describes a file. When its owner is the one that the kernel knows, the kernel describes it; what is wrong with a path it
// says, too.
func (r *request) stat(dir int, name string, buf, flags int) answer {
	p, err := r.look(dir, name, flags&unix.AT_SYMLINK_NOFOLLOW == 0)
	if err != nil {
		return proceed()
	}
	defer p.close()
	o, ok := r.session.files.owner(p)
	if !ok {
		return proceed()
	}
	var st unix.Stat_t
	if err := unix.Fstatat(unix.AT_FDCWD, p.name, &st, p.flags()); err != nil || !r.valid() {
		return proceed()
	}
	st.Uid, st.Gid = uint32(o.UID), uint32(o.GID) //nolint:gosec // ids have 32 bits
	// It is the kernel's own struct.
	if err := r.write(r.arg(buf), unsafe.Slice((*byte)(unsafe.Pointer(&st)), unsafe.Sizeof(st))); err != nil {
		return answer{errno: unix.EFAULT}
	}
	return done()
}

// statx is like stat.
func (r *request) statx() answer {
	const synced = unix.AT_STATX_FORCE_SYNC | unix.AT_STATX_DONT_SYNC
	flags := int(r.int(2))
	path, err := r.string(1)
	if r.arg(1) == 0 && flags&unix.AT_EMPTY_PATH != 0 {
		path, err = "", nil // since Linux 6.11
	}
	if err != nil || path == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return proceed()
	}
	p, err := r.look(r.fd(0), path, flags&unix.AT_SYMLINK_NOFOLLOW == 0)
	if err != nil {
		return proceed()
	}
	defer p.close()
	o, ok := r.session.files.owner(p)
	if !ok {
		return proceed()
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, p.name, p.flags()|flags&synced, int(r.id(3)), &st); err != nil || !r.valid() {
		return proceed()
	}
	st.Uid, st.Gid = uint32(o.UID), uint32(o.GID) //nolint:gosec // ids have 32 bits
	if err := r.write(r.arg(4), unsafe.Slice((*byte)(unsafe.Pointer(&st)), unsafe.Sizeof(st))); err != nil {
		return answer{errno: unix.EFAULT}
	}
	return done()
}
