package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags of most mounts.
const harmless = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV

// view is what enter knows about the root that it has made.
type view struct {
	user  identity
	stubs *stubs
}

// enter makes the step's root from spec, with all that is mounted in it, and makes it the root of this process. Mounts are
// seen in this mount namespace alone and end with it.
func enter(spec *Spec) (*view, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	b := &box{spec}
	if err := b.fill(); err != nil {
		return nil, err
	}
	if err := mountTree(spec.Root, spec.Mount, spec.UserXattr); err != nil {
		return nil, err
	}
	if !spec.Insecure {
		// The step may make nodes of all devices, as packages do, but not reach the machine's disks by them. That is what
		// cgroups are for elsewhere, of which the builder need not have one to manage.
		if err := protect(spec.Mount, unix.MOUNT_ATTR_NODEV); err != nil {
			return nil, fmt.Errorf("protect devices: %w", err)
		}
	}
	old, err := pivot(spec.Mount)
	if err != nil {
		return nil, err
	}
	defer unix.Close(old)
	v := &view{stubs: &stubs{}}
	// What is mounted on /etc/passwd is not asked who the user is.
	if v.user, err = lookUpUser(spec.User); err != nil {
		return nil, err
	}
	m := &mounter{stubs: v.stubs}
	m.stubs.expect(spec.Mounts)
	if err := m.all(spec, b); err != nil {
		return nil, err
	}
	return v, leaveOld(old)
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

// all mounts what the step sees on top of its root.
func (m *mounter) all(spec *Spec, b *box) error {
	if err := m.system(spec); err != nil {
		return err
	}
	if !spec.Insecure {
		if err := maskPaths(); err != nil {
			return err
		}
	}
	for i := range spec.Mounts {
		if err := m.mount(&spec.Mounts[i], b.place(i)[1:], spec.Insecure); err != nil {
			return err
		}
	}
	return nil
}

// mount mounts one of the spec's mounts, whose source has been prepared.
func (m *mounter) mount(o *Mount, source string, insecure bool) error {
	at, err := target(o.Target)
	if err != nil {
		return fmt.Errorf("mount on %q: %w", o.Target, err)
	}
	if o.Tmpfs != nil {
		err = m.memory(o, at)
	} else {
		err = m.put(source, at, isDir(source))
	}
	if err != nil {
		return err
	}
	m.stubs.mounted(at)
	if attr := o.attributes(insecure); attr != 0 {
		if err := protect(at, attr); err != nil {
			return fmt.Errorf("mount on %q: %w", o.Target, err)
		}
	}
	return nil
}

// target resolves the path of a mount. This process trusts what it finds in /proc.
func target(name string) (string, error) {
	at, err := resolve(name)
	switch {
	case err != nil:
		return "", err
	case at == "/":
		return "", errors.New("it is the root")
	case at == "/proc", strings.HasPrefix(at, "/proc/"):
		return "", errors.New("nothing may be mounted in /proc")
	}
	return at, nil
}

// memory mounts an empty directory in memory, with the mode of what it covers.
func (m *mounter) memory(o *Mount, at string) error {
	var data []string
	if fi, err := os.Lstat(at); err == nil {
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return fmt.Errorf("mount on %q: %w", o.Target, err)
		}
		if !fi.IsDir() {
			return fmt.Errorf("mount on %q: %w", o.Target, unix.ENOTDIR)
		}
		data = append(data, fmt.Sprintf("mode=%04o", st.Mode&0o7777))
	} else {
		data = append(data, "mode=1777")
	}
	if o.Tmpfs.Size > 0 {
		data = append(data, "size="+strconv.FormatInt(o.Tmpfs.Size, 10))
	}
	return m.dir("tmpfs", at, "tmpfs", unix.MS_NOSUID, strings.Join(data, ","))
}

// attributes are those that a mount gets besides the ones that its source has.
func (o *Mount) attributes(insecure bool) uint64 {
	var attr uint64
	if !insecure && o.Device == nil {
		attr |= unix.MOUNT_ATTR_NODEV
	}
	if o.ReadOnly || o.File != nil {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	if o.File != nil {
		attr |= unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
		if o.File.Mode&0o111 == 0 {
			attr |= unix.MOUNT_ATTR_NOEXEC
		}
	}
	return attr
}

// dir mounts on a directory, which is made when it is missing.
func (m *mounter) dir(source, target, fstype string, flags uintptr, data string) error {
	path, err := resolve(target)
	if err == nil {
		err = makeStub(path, true)
	}
	if err != nil {
		return fmt.Errorf("mount on %q: %w", target, err)
	}
	return mount(source, path, fstype, flags, data)
}

// put binds on a file or directory, which is made when it is missing.
func (m *mounter) put(source, target string, dir bool) error {
	path, err := resolve(target)
	if err == nil {
		err = makeStub(path, dir)
	}
	if err != nil {
		return fmt.Errorf("mount on %q: %w", target, err)
	}
	return mount(source, path, "", unix.MS_BIND|unix.MS_REC, "")
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
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

// protect adds attributes to a mount and all mounts below it.
func protect(at string, attributes uint64) error {
	attr := unix.MountAttr{Attr_set: attributes}
	err := unix.MountSetattr(unix.AT_FDCWD, at, unix.AT_RECURSIVE, &attr)
	if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// Linux before 5.12. In a user namespace flags that are set must stay so.
	var fs unix.Statfs_t
	if err := unix.Statfs(at, &fs); err != nil {
		return err
	}
	flags := uintptr(fs.Flags) & (unix.MS_RDONLY | harmless | unix.MS_RELATIME | unix.MS_NOATIME | unix.MS_NODIRATIME)
	return unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|uintptr(attributes)|flags, "")
}
