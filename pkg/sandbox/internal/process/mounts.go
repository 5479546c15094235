package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags of most mounts.
const harmless = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV

// enter makes the step's root from spec, with all that is mounted in it, and makes it the root of this process. Mounts are
// seen in this mount namespace alone and end with it.
func enter(spec *Spec) (*stubs, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := fillBox(spec); err != nil {
		return nil, err
	}
	if err := mountRoot(spec); err != nil {
		return nil, err
	}
	old, err := pivot(spec.Mount)
	if err != nil {
		return nil, err
	}
	defer unix.Close(old)
	m := &mounter{stubs: &stubs{}}
	m.stubs.expect(spec.Files)
	if err := m.system(spec); err != nil {
		return nil, err
	}
	if err := m.files(spec); err != nil {
		return nil, err
	}
	if err := maskPaths(); err != nil {
		return nil, err
	}
	return m.stubs, leaveOld(old)
}

// fillBox puts the files that are to be mounted on a filesystem of their own.
func fillBox(spec *Spec) error {
	if len(spec.Files) == 0 {
		return nil
	}
	if err := mount("tmpfs", spec.Box, "tmpfs", harmless, "mode=0755"); err != nil {
		return err
	}
	for i, f := range spec.Files {
		name := filepath.Join(spec.Box, strconv.Itoa(i))
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			return fmt.Errorf("write file for %q: %w", f.Path, err)
		}
		if err := unix.Chmod(name, uint32(f.Mode)&0o777); err != nil {
			return fmt.Errorf("write file for %q: %w", f.Path, err)
		}
	}
	return nil
}

// mountRoot mounts the step's root on spec.Mount.
func mountRoot(spec *Spec) error {
	if spec.Root != "" {
		return mount(spec.Root, spec.Mount, "", unix.MS_BIND|unix.MS_REC, "")
	}
	o := spec.Overlay
	if err := unix.Chdir(o.Dir); err != nil {
		return fmt.Errorf("mount overlay: enter %q: %w", o.Dir, err)
	}
	// No inode index and no redirects: a directory of which a layer is made must mean the same when
	// it is mounted elsewhere. Without syncing, as it is the page cache alone from which layers are read.
	options := "lowerdir=" + strings.Join(o.Lower, ":") + ",upperdir=" + o.Upper + ",workdir=" + o.Work +
		",index=off,metacopy=off,redirect_dir=off"
	if o.UserXattr {
		// The user form implies the other three.
		options = "lowerdir=" + strings.Join(o.Lower, ":") + ",upperdir=" + o.Upper + ",workdir=" + o.Work + ",userxattr"
	}
	if page := os.Getpagesize(); len(options) >= page-len(",volatile") {
		return fmt.Errorf("mount overlay: %d layers are too many", len(o.Lower))
	}
	err := mount("overlay", spec.Mount, "overlay", 0, options+",volatile")
	if errors.Is(err, unix.EINVAL) {
		err = mount("overlay", spec.Mount, "overlay", 0, options) // Linux before 5.10 must sync
	}
	return err
}

// pivot makes dir, a mount, the root of this mount namespace and process. The old root stays reachable by the
// returned directory, which becomes the working directory: relative paths are those of the builder, absolute
// ones those of the step.
func pivot(dir string) (old int, err error) {
	if old, err = openPath("/"); err != nil {
		return -1, fmt.Errorf("open root: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return -1, fmt.Errorf("change root: %w", err)
	}
	err = unix.PivotRoot(".", ".")
	if errors.Is(err, unix.EINVAL) {
		// The initial ramfs cannot be left, only covered.
		if err = mount(dir, "/", "", unix.MS_MOVE, ""); err == nil {
			err = unix.Chroot(".")
		}
	}
	if err != nil {
		return -1, fmt.Errorf("change root: %w", err)
	}
	if err := unix.Fchdir(old); err != nil {
		return -1, fmt.Errorf("change root: %w", err)
	}
	return old, nil
}

// leaveOld gives up the old root. Its mounts become read-only first: this process runs a program that lies there, which
// the step could otherwise change through /proc.
func leaveOld(old int) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(old, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("protect the builder's files: %w", err)
	}
	if err := unix.Fchdir(old); err != nil {
		return fmt.Errorf("leave old root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("leave old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("leave old root: %w", err)
	}
	return nil
}

// mounter mounts in the new root while paths without a slash in front still lead to the old one.
type mounter struct {
	stubs *stubs
}

// dir mounts on a directory, which is made when it is missing.
func (m *mounter) dir(source, target, fstype string, flags uintptr, data string) error {
	path, err := resolve(target)
	if err != nil {
		return fmt.Errorf("mount on %q: %w", target, err)
	}
	if err := makeDirs(path, func(string) error { return nil }); err != nil {
		return fmt.Errorf("mount on %q: %w", target, err)
	}
	return mount(source, path, fstype, flags, data)
}

// file mounts a file on another one, which is made when it is missing.
func (m *mounter) file(source, target string, flags uintptr) error {
	path, err := resolve(target)
	if err != nil {
		return fmt.Errorf("mount on %q: %w", target, err)
	}
	if err := makeFile(path); err != nil {
		return fmt.Errorf("mount on %q: %w", target, err)
	}
	if err := mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if flags == 0 {
		return nil
	}
	m.stubs.mounted(path)
	return mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|flags, "")
}

func makeFile(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := makeDirs(filepath.Dir(path), func(string) error { return nil }); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// files mounts what is in the box.
func (m *mounter) files(spec *Spec) error {
	for i, f := range spec.Files {
		source := filepath.Join(spec.Box, strconv.Itoa(i))[1:]
		if err := m.file(source, f.Path, harmlessFor(f)|unix.MS_RDONLY); err != nil {
			return err
		}
	}
	return nil
}

// harmlessFor lets files that are meant to be executed be.
func harmlessFor(f File) uintptr {
	if f.Mode&0o111 != 0 {
		return unix.MS_NOSUID | unix.MS_NODEV
	}
	return harmless
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		what := fstype
		if what == "" {
			what = strconv.Quote(source)
		}
		return fmt.Errorf("mount %s on %q: %w", what, target, err)
	}
	return nil
}

func openPath(name string) (int, error) {
	return unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

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
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return err
	}
	// In a user namespace flags that are set must stay so.
	flags := uintptr(fs.Flags) & (harmless | unix.MS_RELATIME | unix.MS_NOATIME | unix.MS_NODIRATIME)
	return unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|flags, "")
}
