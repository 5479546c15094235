// Package feign lets the processes of a step use ids that their user namespace lacks, where it has but one: they change the owners of
// files, become other users, and see and make files as these, while the kernel knows one owner and one user.
//
// The kernel hands the system calls that this is about to a supervisor in the step's first process, by a seccomp filter (user
// notification, seccomp_unotify(2)). All other calls are as fast as before. What owner a file should have is noted on the file, see
// package mark.
//
// It is a convenience and no wall: processes that have become another user keep what they may do. The step's wall is its namespaces,
// and the supervisor does nothing for a process that the process could not do itself.
package feign

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
)

// ErrUnavailable says that the kernel, or what this process runs in, does not let it supervise system calls.
var ErrUnavailable = errors.New("system calls cannot be supervised")

// Session is the supervision of the processes of one step.
type Session struct {
	fd    int
	ids   identities
	files files
	calls map[uint32]handler
	// numbers are the callers' in /proc.
	numbers numbers
	// mounts is the mount namespace of this process.
	mounts string
	// wandered says that a process may have another root directory than this one, or other mounts.
	wandered atomic.Bool
}

// Start supervises what the calling thread and the programs that it starts will do. The thread should be locked, and end when it
// has started them, see Undisturbed. first is who they are to begin with, special the owners of files, by their paths
// from the root, that cannot bear a mark, and table those of more of them.
//
// The session ends with the processes; this one must outlive them, and have CAP_SYS_ADMIN in its user namespace. An error that is
// ErrUnavailable has changed nothing.
func Start(first Identity, special map[string]mark.Owner, table mark.Table) (*Session, error) {
	s := &Session{calls: make(map[uint32]handler)}
	s.ids.list = []Identity{first}
	for _, c := range supervised() {
		s.calls[c.number] = c.answer
	}
	if len(s.calls) == 0 {
		return nil, fmt.Errorf("%w on this architecture", ErrUnavailable)
	}
	if err := check(); err != nil {
		return nil, err
	}
	if err := s.numbers.init(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var err error
	if s.mounts, err = readlink("/proc/self/ns/mnt"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := s.files.init(special, table); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	for range supervisors {
		go s.serve()
	}
	return s, nil
}

// Marked returns the owners of files of the root's filesystem that cannot bear a mark, special and table among them. It is to be
// called when no process is left.
func (s *Session) Marked() mark.Table { return s.files.onRoot() }

// supervisors is how many calls are looked at at a time.
const supervisors = 4

// listen installs the filter on the calling thread.
func (s *Session) listen() error {
	program := filter(supervised())
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]} //nolint:gosec // it is some dozens long
	// A process whose call is being answered is not interrupted by signals that do not kill it: the call may have been done.
	for _, flags := range []uintptr{
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, // Linux 5.19
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
	} {
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
		switch {
		case errno == 0:
			s.fd = int(fd)
			// The one who is waited for is waked up on the same processor (Linux 6.6).
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, fd, ioctlSetFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
			return nil
		case errno == unix.EBUSY:
			return fmt.Errorf("%w: somebody supervises this process, too", ErrUnavailable)
		case errno != unix.EINVAL:
			return fmt.Errorf("%w: %w", ErrUnavailable, errno)
		}
	}
	return fmt.Errorf("%w: the kernel is too old", ErrUnavailable)
}

// check finds out whether there can be a session.
func check() error {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return fmt.Errorf("%w: the kernel does not hand them over: %w", ErrUnavailable, errno)
	}
	if !atLeast(5, 9) {
		return fmt.Errorf("%w: that needs Linux 5.9", ErrUnavailable) // where supervisors can open files for others
	}
	return nil
}

// atLeast reports whether the kernel has that version.
func atLeast(major, minor int) bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}
