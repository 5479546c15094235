package process

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// system mounts what every program expects to find, names the host and brings the loopback interface up.
func (m *mounter) system(spec *Spec) error {
	if err := m.proc(); err != nil {
		return err
	}
	if err := m.dev(spec.Insecure); err != nil {
		return err
	}
	if spec.Insecure {
		if err := m.allDevices(); err != nil {
			return err
		}
	}
	if err := m.sys(spec.Insecure); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if spec.Network {
		return loopbackUp()
	}
	return nil
}

// proc mounts the process list of this PID namespace. In a container that has masked parts of /proc the kernel refuses
// that to a user namespace; the builder's /proc, which shows more processes, has to do then.
func (m *mounter) proc() error {
	if err := ordinary("/proc"); err != nil {
		return err
	}
	err := m.dir("proc", "/proc", "proc", harmless, "")
	if errors.Is(err, unix.EPERM) {
		return m.dir("proc", "/proc", "", unix.MS_BIND|unix.MS_REC, "")
	}
	return err
}

// ordinary refuses an image that has something else than a directory, most of all a link, where others rely on what is
// mounted there.
func ordinary(path string) error {
	fi, err := os.Lstat(path)
	if err == nil && !fi.IsDir() {
		return fmt.Errorf("mount on %q: the image has something there that is not a directory", path)
	}
	return nil
}

// sys mounts /sys, which all but insecure steps may only read. A network namespace that belongs to another user namespace than this process
// does not let it mount its own: then it is the builder's.
func (m *mounter) sys(writable bool) error {
	if err := ordinary("/sys"); err != nil {
		return err
	}
	flags := uintptr(harmless)
	if !writable {
		flags |= unix.MS_RDONLY
	}
	err := m.dir("sysfs", "/sys", "sysfs", flags, "")
	if errors.Is(err, unix.EPERM) {
		return m.bindSys(flags)
	}
	if err != nil {
		return err
	}
	m.cgroup(flags)
	return nil
}

func (m *mounter) bindSys(flags uintptr) error {
	if err := m.dir("sys", "/sys", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: uint64(flags)} // they have the same numbers
	if err := unix.MountSetattr(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE, &attr); err != nil {
		// Better none than one that can be written to.
		if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount /sys: %w", err)
		}
	}
	return nil
}

// cgroup mounts the unified hierarchy, as far as a step may see it. Few programs miss it.
func (m *mounter) cgroup(flags uintptr) {
	var fs unix.Statfs_t
	if unix.Statfs("sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		_ = unix.Mount("cgroup", "/sys/fs/cgroup", "cgroup2", flags, "")
	}
}

// dev makes a /dev that has nothing of the machine's devices.
func (m *mounter) dev(insecure bool) error {
	var flags uintptr = unix.MS_NOSUID | unix.MS_STRICTATIME
	if !insecure {
		flags |= unix.MS_NODEV // what the step makes; its own nodes are mounts
	}
	if err := m.dir("tmpfs", "/dev", "tmpfs", flags, "mode=755,size=65536k"); err != nil {
		return err
	}
	for _, name := range harmlessNodes() {
		if err := m.put(path.Join("dev", name), path.Join("/dev", name), false); err != nil {
			return err
		}
	}
	if err := m.devDirs(); err != nil {
		return err
	}
	links := [][2]string{
		{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"},
	}
	if _, err := os.Stat("/proc/kcore"); err == nil {
		links = append(links, [2]string{"/proc/kcore", "/dev/core"})
	}
	for _, l := range links {
		if err := os.Symlink(l[0], l[1]); err != nil {
			return fmt.Errorf("make /dev: %w", err)
		}
	}
	return nil
}

func (m *mounter) devDirs() error {
	pts := "newinstance,ptmxmode=0666,mode=0620"
	err := m.dir("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, pts+",gid=5")
	if errors.Is(err, unix.EINVAL) {
		err = m.dir("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, pts) // group 5 is not mapped
	}
	if err != nil {
		return err
	}
	if err := m.dir("shm", "/dev/shm", "tmpfs", harmless, "mode=1777,size=65536k"); err != nil {
		return err
	}
	err = m.dir("mqueue", "/dev/mqueue", "mqueue", harmless, "")
	if errors.Is(err, unix.ENODEV) {
		return nil // a kernel without message queues
	}
	return err
}

// loopbackUp brings the one interface of a fresh network namespace up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}
