package feign

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif.
type notification struct {
	cookie    uint64
	pid       uint32
	_         uint32 // flags
	number    int32
	_         uint32 // architecture
	_         uint64 // instruction pointer
	arguments [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	error int32
	flags uint32
}

// addition is struct seccomp_notif_addfd.
type addition struct {
	id       uint64
	flags    uint32
	source   uint32
	target   uint32
	newFlags uint32
}

// Requests to the listener that package unix lacks.
const (
	ioctlValid    = 0x40082102
	ioctlAdd      = 0x40182103
	ioctlSetFlags = 0x40082104
)

// answer is what becomes of a call.
type answer struct {
	value int64
	errno unix.Errno
	// proceed has the kernel do the call, sent says that it has been answered.
	proceed, sent bool
}

func proceed() answer { return answer{proceed: true} }

func done() answer { return answer{} }

func value(v uint32) answer { return answer{value: int64(v)} }

// failed is the answer with the error of a system call.
func failed(err error) answer {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return answer{errno: errno}
}

// request is a call that waits for its answer.
type request struct {
	session *Session
	notification
	// known is proc's answer, once it has given one.
	known string
	buf   [3 * unix.PathMax]byte
}

// serve answers calls, on a thread of its own whose umask is none.
func (s *Session) serve() {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err == nil {
		unix.Umask(0)
	}
	r := &request{session: s}
	for {
		r.notification, r.known = notification{}, ""
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&r.notification)))
		switch errno {
		case 0:
			r.reply(s.answer(r))
		case unix.EINTR, unix.ENOENT: // the caller has been killed meanwhile
		default:
			// Nobody is left, or all that are get ENOSYS from now on: better than to wait for an answer.
			unix.Close(s.fd)
			return
		}
	}
}

func (s *Session) answer(r *request) answer {
	if h := s.calls[uint32(r.number)]; h != nil { //nolint:gosec // numbers are positive
		return h(r)
	}
	return proceed()
}

func (r *request) reply(a answer) {
	if a.sent {
		return
	}
	out := response{id: r.cookie, value: a.value, error: -int32(a.errno)} //nolint:gosec // there are few of them
	if a.proceed {
		out = response{id: r.cookie, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	}
	// It fails when the caller has been killed.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(r.session.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&out)))
}

// valid reports whether the caller still waits, and so is whom its number means.
func (r *request) valid() bool {
	id := r.cookie
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.session.fd), ioctlValid, uintptr(unsafe.Pointer(&id)))
	return errno == 0
}

// give gives the caller a file that this process has open, which the call returns.
func (r *request) give(fd int, closeOnExec bool) answer {
	add := addition{id: r.cookie, flags: unix.SECCOMP_ADDFD_FLAG_SEND, source: uint32(fd)} //nolint:gosec // descriptors are small
	if closeOnExec {
		add.newFlags = unix.O_CLOEXEC
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.session.fd), ioctlAdd, uintptr(unsafe.Pointer(&add)))
	if errno == unix.EINVAL { // Linux before 5.14 cannot do both at once
		add.flags = 0
		var got uintptr
		if got, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(r.session.fd), ioctlAdd, uintptr(unsafe.Pointer(&add))); errno == 0 {
			return answer{value: int64(got)} //nolint:gosec // descriptors are small
		}
	}
	return answer{errno: errno, sent: errno == 0}
}

// Arguments of the call.

func (r *request) arg(i int) uintptr { return uintptr(r.arguments[i]) }

func (r *request) id(i int) uint32 { return uint32(r.arguments[i]) } //nolint:gosec // the kernel takes 32 bits, too

func (r *request) int(i int) int32 { return int32(r.arguments[i]) } //nolint:gosec // the kernel takes 32 bits, too

func (r *request) fd(i int) int { return int(r.int(i)) }

// read reads the caller's memory.
func (r *request) read(at uintptr, into []byte) error {
	local := []unix.Iovec{{Base: &into[0]}}
	local[0].SetLen(len(into))
	n, err := unix.ProcessVMReadv(int(r.pid), local, []unix.RemoteIovec{{Base: at, Len: len(into)}}, 0)
	if err == nil && n != len(into) {
		err = unix.EFAULT
	}
	return err
}

// write writes to the caller's memory.
func (r *request) write(at uintptr, data []byte) error {
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	n, err := unix.ProcessVMWritev(int(r.pid), local, []unix.RemoteIovec{{Base: at, Len: len(data)}}, 0)
	if err == nil && n != len(data) {
		err = unix.EFAULT
	}
	return err
}

// string reads a path from the caller's memory. Each page is asked for by itself: the one after the string need not be there.
func (r *request) string(i int) (string, error) {
	at, page := r.arg(i), uintptr(os.Getpagesize())
	buf := r.buf[:unix.PathMax]
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	var remote []unix.RemoteIovec
	for left := uintptr(len(buf)); left > 0; {
		n := min(left, page-at%page)
		remote = append(remote, unix.RemoteIovec{Base: at, Len: int(n)}) //nolint:gosec // no more than a path has
		at, left = at+n, left-n
	}
	n, err := unix.ProcessVMReadv(int(r.pid), local, remote, 0)
	if err != nil {
		return "", err
	}
	for i, c := range buf[:n] {
		if c == 0 {
			return string(buf[:i]), nil
		}
	}
	return "", unix.ENAMETOOLONG
}

// proc is the directory of the caller in /proc. When there is none, it is one that does not exist.
func (r *request) proc() string {
	if r.known == "" {
		r.known = "/proc/" + strconv.Itoa(r.session.numbers.of(int(r.pid)))
	}
	return r.known
}
