package feign

import (
	"encoding/binary"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// keepCapabilities notes what the caller, who is going to become somebody else, is to keep.
func (r *request) keepCapabilities() answer {
	who := r.who()
	if keeps := r.arg(1) == 1; keeps != who.keeps {
		who.keeps = keeps
		r.become(who)
	}
	return proceed()
}

// capset notes when a caller that had kept capabilities gives up those to become somebody else.
func (r *request) capset() answer {
	who := r.who()
	if !who.kept {
		return proceed()
	}
	var sets [3 * 4]byte // effective, permitted, inheritable
	if err := r.read(r.arg(1), sets[:]); err != nil {
		return proceed()
	}
	if binary.NativeEndian.Uint32(sets[4:])&(1<<unix.CAP_SETUID) == 0 {
		who.kept = false
		r.become(who)
	}
	return proceed()
}

// limit tells of RLIMIT_LOCKS that there is none, in an argument. What it has in it is ours.
func (r *request) limit(arg int) answer {
	if r.arg(arg) == 0 {
		return done()
	}
	none := binary.NativeEndian.AppendUint64(nil, math.MaxUint64)
	if err := r.write(r.arg(arg), append(none, none...)); err != nil {
		return answer{errno: unix.EFAULT}
	}
	return done()
}

// execute lets the caller become the owner of a program that has the bit for that.
func (r *request) execute(dir, name, flags int) answer {
	path, err := r.string(name)
	if err != nil {
		return proceed()
	}
	before := r.who()
	who := before
	who.keeps, who.kept = false, false
	if fd, err := r.open(dir, path, flags&unix.AT_SYMLINK_NOFOLLOW == 0); err == nil {
		r.setBits(fd, &who)
		unix.Close(fd)
	}
	if !who.same(&before) {
		r.become(who)
	}
	return proceed()
}

func (w *Identity) same(o *Identity) bool {
	return w.User == o.User && w.Group == o.Group && w.keeps == o.keeps && w.kept == o.kept
}

// setBits changes who for the program that is open.
func (r *request) setBits(fd int, who *Identity) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return
	}
	if !isProgram(fd) || r.status("NoNewPrivs") == "1" {
		return
	}
	o := r.session.ownerOf(fd, &st)
	if id := uint32(o.UID); st.Mode&unix.S_ISUID != 0 { //nolint:gosec // ids have 32 bits
		who.User.Effective, who.User.Saved, who.User.Files = id, id, id
	}
	if id := uint32(o.GID); st.Mode&(unix.S_ISGID|0o010) == unix.S_ISGID|0o010 { //nolint:gosec // ids have 32 bits
		who.Group.Effective, who.Group.Saved, who.Group.Files = id, id, id
	}
}

// isProgram reports whether a file is not a script, whose bits mean nothing.
func isProgram(fd int) bool {
	f, err := os.Open(descriptor(fd))
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x7fELF"
}

// status returns a field of the caller's status in /proc.
func (r *request) status(name string) string { return field(r.proc()+"/status", name) }
