package feign

import "golang.org/x/sys/unix"

const (
	arch = unix.AUDIT_ARCH_AARCH64
	// otherABI is the first number that means a call of another ABI: there are none.
	otherABI = 1 << 31
)

func supervised() []call {
	return append(common(),
		call{number: unix.SYS_SETRLIMIT, only: equal(0, unix.RLIMIT_LOCKS), answer: func(*request) answer { return done() }},
		call{number: unix.SYS_GETRLIMIT, only: equal(0, unix.RLIMIT_LOCKS), answer: func(r *request) answer { return r.limit(1) }})
}
