package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// stepCaps is the bounding set of a step's processes, that of Docker's default profile: enough to install
// packages, not enough to reach the machine.
const stepCaps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FSETID | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_MKNOD | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETFCAP |
	1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_KILL |
	1<<unix.CAP_AUDIT_WRITE

// limit says what the step's programs may gain: little, or all capabilities of this thread, which are returned.
func (s *Spec) limit() (ambient []uintptr, err error) {
	if s.Insecure {
		ambient, err = permitted()
	} else {
		err = restrict(stepCaps)
	}
	// A key ring of its own, so that the builder's keys are not the step's.
	_, _ = unix.KeyctlJoinSessionKeyring("") // not all kernels have them, and some containers forbid it
	return ambient, err
}

// permitted returns the capabilities of this thread.
func permitted() ([]uintptr, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("read capabilities: %w", err)
	}
	var caps []uintptr
	for c := range uintptr(64) {
		if data[c/32].Permitted&(1<<(c%32)) != 0 {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// restrict prepares this thread for starting the step: what programs started from it may ever gain is
// limited, while the thread itself keeps what it needs. It must be the thread that the process was started
// on, and the one that forks.
func restrict(keep uint64) error {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP+16; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			break // the kernel knows no more
		}
		if has == 1 && keep&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				return fmt.Errorf("drop capability %d: %w", c, err)
			}
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // there are none before Linux 4.3
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	return nil
}
