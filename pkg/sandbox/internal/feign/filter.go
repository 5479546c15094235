package feign

import (
	"golang.org/x/sys/unix"
)

// call is a system call that is supervised.
type call struct {
	number uint32
	answer handler
	// only, when it is not nil, says which calls are: others the kernel does.
	only *condition
}

// condition is one on the lower half of an argument: that it is value or, with anyOf, that it has one of its bits.
type condition struct {
	arg   int
	value uint32
	anyOf bool
}

// makingBy is the condition on an argument that has flags of open.
func makingBy(arg int) *condition { return &condition{arg: arg, value: makesFile, anyOf: true} }

func equal(arg int, value uint32) *condition { return &condition{arg: arg, value: value} }

type handler func(r *request) answer

// makesFile has the flags of open with which it may make a file.
const makesFile = unix.O_CREAT | tmpfile

// tmpfile is the part of O_TMPFILE that is no other flag.
const tmpfile = unix.O_TMPFILE &^ unix.O_DIRECTORY

// Where struct seccomp_data has what.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// filter is the program that hands calls to the supervisor, and lets all others be done by the kernel. Those of other
// architectures that the kernel knows, such as those of 32 bits, are among the others.
func filter(calls []call) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		same   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		bits   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		result = unix.BPF_RET | unix.BPF_K
	)
	allow := unix.SockFilter{Code: result, K: unix.SECCOMP_RET_ALLOW}
	notify := unix.SockFilter{Code: result, K: unix.SECCOMP_RET_USER_NOTIF}
	out := []unix.SockFilter{
		{Code: load, K: offsetArch}, {Code: same, K: arch, Jt: 1}, allow,
		{Code: load, K: offsetNumber}, {Code: least, K: otherABI, Jf: 1}, allow,
	}
	for _, c := range calls {
		if c.only == nil {
			out = append(out, unix.SockFilter{Code: same, K: c.number, Jf: 1}, notify)
			continue
		}
		test := uint16(same)
		if c.only.anyOf {
			test = bits
		}
		out = append(out, unix.SockFilter{Code: same, K: c.number, Jf: 4},
			unix.SockFilter{Code: load, K: uint32(offsetArgs + 8*c.only.arg)}, //nolint:gosec // there are six arguments
			unix.SockFilter{Code: test, K: c.only.value, Jf: 1}, notify, allow)
	}
	return append(out, allow)
}

// common are the calls that all architectures have.
func common() []call {
	return []call{
		{number: unix.SYS_FCHOWN, answer: func(r *request) answer {
			return r.chown(r.fd(0), "", r.id(1), r.id(2), unix.AT_EMPTY_PATH)
		}},
		{number: unix.SYS_FCHOWNAT, answer: func(r *request) answer { return r.chownPath(r.fd(0), 1, 2, int(r.int(4))) }},
		{number: unix.SYS_FSTAT, answer: func(r *request) answer { return r.stat(r.fd(0), "", 1, unix.AT_EMPTY_PATH) }},
		{number: unix.SYS_NEWFSTATAT, answer: func(r *request) answer { return r.statPath(r.fd(0), 1, 2, int(r.int(3))) }},
		{number: unix.SYS_STATX, answer: (*request).statx},
		{number: unix.SYS_SETUID, answer: (*request).setuid},
		{number: unix.SYS_SETGID, answer: (*request).setgid},
		{number: unix.SYS_SETREUID, answer: (*request).setreuid},
		{number: unix.SYS_SETREGID, answer: (*request).setregid},
		{number: unix.SYS_SETRESUID, answer: (*request).setresuid},
		{number: unix.SYS_SETRESGID, answer: (*request).setresgid},
		{number: unix.SYS_SETFSUID, answer: (*request).setfsuid},
		{number: unix.SYS_SETFSGID, answer: (*request).setfsgid},
		{number: unix.SYS_SETGROUPS, answer: (*request).setgroups},
		{number: unix.SYS_GETUID, answer: func(r *request) answer { return value(r.who().User.Real) }},
		{number: unix.SYS_GETEUID, answer: func(r *request) answer { return value(r.who().User.Effective) }},
		{number: unix.SYS_GETGID, answer: func(r *request) answer { return value(r.who().Group.Real) }},
		{number: unix.SYS_GETEGID, answer: func(r *request) answer { return value(r.who().Group.Effective) }},
		{number: unix.SYS_GETRESUID, answer: func(r *request) answer { return r.writeIDs(r.who().User) }},
		{number: unix.SYS_GETRESGID, answer: func(r *request) answer { return r.writeIDs(r.who().Group) }},
		{number: unix.SYS_GETGROUPS, answer: (*request).getgroups},
		{number: unix.SYS_PRCTL, only: equal(0, unix.PR_SET_KEEPCAPS), answer: (*request).keepCapabilities},
		{number: unix.SYS_CAPSET, answer: (*request).capset},
		{number: unix.SYS_EXECVE, answer: func(r *request) answer { return r.execute(unix.AT_FDCWD, 0, 0) }},
		{number: unix.SYS_EXECVEAT, answer: func(r *request) answer { return r.execute(r.fd(0), 1, int(r.int(4))) }},
		{number: unix.SYS_PRLIMIT64, only: equal(1, unix.RLIMIT_LOCKS), answer: func(r *request) answer { return r.limit(3) }},
		{number: unix.SYS_CHROOT, answer: (*request).wander},
		{number: unix.SYS_SETNS, answer: (*request).wander},
		{number: unix.SYS_UNSHARE, only: &condition{value: unix.CLONE_NEWNS, anyOf: true}, answer: (*request).wander},
		{number: unix.SYS_CLONE, only: &condition{value: unix.CLONE_NEWNS, anyOf: true}, answer: (*request).wander},
		{number: unix.SYS_OPENAT, only: makingBy(2), answer: func(r *request) answer {
			return r.openFile(r.fd(0), 1, uint64(r.arg(2)), uint32(r.arg(3))) //nolint:gosec // the kernel takes 32 bits of the mode
		}},
		{number: unix.SYS_OPENAT2, answer: (*request).openat2},
		{number: unix.SYS_MKDIRAT, answer: func(r *request) answer { return r.mkdir(r.fd(0), 1, r.id(2)) }},
		{number: unix.SYS_MKNODAT, answer: func(r *request) answer { return r.mknod(r.fd(0), 1, r.id(2)) }},
		{number: unix.SYS_SYMLINKAT, answer: func(r *request) answer { return r.symlink(0, r.fd(1), 2) }},
	}
}
