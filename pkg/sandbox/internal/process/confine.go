package process

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/unfit"
)

// confine keeps the programs that this thread starts away from the builder, where there are no namespaces to do so.
//
// Root's are confined by Landlock: they reach no file outside their root, and send no signals to processes that are not their
// own. As that keeps programs with setuid bits from giving privileges, it is not for other users, who have no power over
// the builder anyway. Where there is no Landlock, a step cannot call chroot, the only way out of its root.
func (s *Spec) confine(who identity) error {
	if s.Bare == nil {
		return nil
	}
	inside := s.Bare.Swap == nil
	if who.uid == 0 {
		if ok, err := landlock(inside); ok || err != nil {
			return err
		}
	}
	if !inside || s.Insecure {
		return nil
	}
	err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_CHROOT, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("keep process in its root: %w", err)
	}
	return nil
}

// Versions of Landlock that are asked for.
const (
	landlockRefer  = 2 // files can be renamed from one directory to another
	landlockTrunc  = 3
	landlockIoctl  = 5
	landlockScopes = 6
)

// landlock restricts this thread, if the kernel can do it: inside says that it is to reach no file outside its root directory.
func landlock(inside bool) (bool, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || version < landlockRefer || !inside && version < landlockScopes {
		return false, nil
	}
	attr := unix.LandlockRulesetAttr{}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if inside {
		attr.Handled_access_fs = landlockRights(int(version))
	}
	if version >= landlockScopes {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		size = unsafe.Offsetof(attr.Quiet_access_fs)
	}
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return false, fmt.Errorf("confine process: make Landlock rules: %w", errno)
	}
	defer unix.Close(int(rules))
	if inside {
		if err := allowRoot(int(rules), attr.Handled_access_fs); err != nil {
			return false, fmt.Errorf("confine process: %w", err)
		}
	}
	err := landlockSelf(rules)
	if errors.Is(err, unix.EPERM) {
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
			err = landlockSelf(rules)
		}
	}
	if err != nil {
		return false, fmt.Errorf("confine process: %w", err)
	}
	return true, nil
}

// landlockRights are all rights that a version knows and that can be used at all in a container.
func landlockRights(version int) uint64 {
	rights := uint64(unix.LANDLOCK_ACCESS_FS_REFER<<1 - 1)
	if version >= landlockTrunc {
		rights |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= landlockIoctl {
		rights |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return rights
}

// allowRoot allows all that is below this process's root directory.
func allowRoot(rules int, rights uint64) error {
	root, err := openPath("/")
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	defer unix.Close(root)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(root)} //nolint:gosec // descriptors are small
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func landlockSelf(rules uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// CheckBare says, in one sentence, why steps cannot run here without namespaces; otherwise it returns nil.
func CheckBare() error {
	if os.Geteuid() != 0 {
		return &unfit.Error{
			Why: fmt.Sprintf("uid %d is not root", os.Geteuid()), Remedy: "run the container as uid 0, with default capabilities",
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, c := range []struct {
		bit  int
		name string
	}{
		{unix.CAP_SYS_CHROOT, "SYS_CHROOT"}, {unix.CAP_CHOWN, "CHOWN"}, {unix.CAP_DAC_OVERRIDE, "DAC_OVERRIDE"},
		{unix.CAP_FOWNER, "FOWNER"}, {unix.CAP_SETUID, "SETUID"}, {unix.CAP_SETGID, "SETGID"}, {unix.CAP_SETPCAP, "SETPCAP"},
	} {
		if data[0].Effective&(1<<c.bit) == 0 {
			return &unfit.Error{
				Why: "this process lacks CAP_" + c.name, Remedy: "run the container as uid 0, with default capabilities",
			}
		}
	}
	return nil
}
