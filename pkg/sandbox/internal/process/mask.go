package process

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// maskedPaths show things of the machine that are none of a step's business; an empty file or directory covers
// them. readOnlyPaths would let it change the machine. Both lists are those of container engines.
func maskedPaths() []string {
	list := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
		"/sys/firmware", "/sys/devices/virtual/powercap",
	}
	for cpu := range runtime.NumCPU() {
		list = append(list, fmt.Sprintf("/sys/devices/system/cpu/cpu%d/thermal_throttle", cpu))
	}
	return list
}

func readOnlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func maskPaths() error {
	for _, path := range maskedPaths() {
		err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		if errors.Is(err, unix.ENOTDIR) {
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "nr_blocks=1,nr_inodes=1")
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mask %q: %w", path, err)
		}
	}
	for _, path := range readOnlyPaths() {
		if err := readOnly(path); err != nil {
			return fmt.Errorf("make %q read-only: %w", path, err)
		}
	}
	return nil
}

func readOnly(path string) error {
	err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	return protect(path, unix.MOUNT_ATTR_RDONLY)
}
