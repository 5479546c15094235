package feign

import "golang.org/x/sys/unix"

const (
	arch = unix.AUDIT_ARCH_X86_64
	// otherABI is the first number that means a call of another ABI, x32.
	otherABI = 1 << 30
)

// supervised are the calls, with those that other architectures have no more.
func supervised() []call {
	const here = unix.AT_FDCWD
	return append(common(),
		call{number: unix.SYS_CHOWN, answer: func(r *request) answer { return r.chownPath(here, 0, 1, 0) }},
		call{number: unix.SYS_LCHOWN, answer: func(r *request) answer { return r.chownPath(here, 0, 1, unix.AT_SYMLINK_NOFOLLOW) }},
		call{number: unix.SYS_STAT, answer: func(r *request) answer { return r.statPath(here, 0, 1, 0) }},
		call{number: unix.SYS_LSTAT, answer: func(r *request) answer { return r.statPath(here, 0, 1, unix.AT_SYMLINK_NOFOLLOW) }},
		call{number: unix.SYS_OPEN, only: makingBy(1), answer: func(r *request) answer {
			return r.openFile(here, 0, uint64(r.arg(1)), r.id(2))
		}},
		call{number: unix.SYS_CREAT, answer: func(r *request) answer {
			return r.openFile(here, 0, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, r.id(1))
		}},
		call{number: unix.SYS_SETRLIMIT, only: equal(0, unix.RLIMIT_LOCKS), answer: func(*request) answer { return done() }},
		call{number: unix.SYS_GETRLIMIT, only: equal(0, unix.RLIMIT_LOCKS), answer: func(r *request) answer { return r.limit(1) }},
		call{number: unix.SYS_MKDIR, answer: func(r *request) answer { return r.mkdir(here, 0, r.id(1)) }},
		call{number: unix.SYS_MKNOD, answer: func(r *request) answer { return r.mknod(here, 0, r.id(1)) }},
		call{number: unix.SYS_SYMLINK, answer: func(r *request) answer { return r.symlink(0, here, 1) }},
	)
}
