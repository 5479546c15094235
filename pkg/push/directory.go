package push

import (
	"archive/tar"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// directory writes files beneath a directory. Every directory on the way to a file is opened from the one above it
// and refused if it is a link, so that nothing leads out, not even what somebody puts there meanwhile.
type directory struct {
	root     *os.Root // removes what is in the way
	fd       int      // of the root
	uid, gid int

	// The directory that was used last stays open: files come by directory, mostly.
	lastName string
	lastFD   int
}

func openDirectory(dest string) (*directory, error) {
	root, err := os.OpenRoot(dest)
	if err != nil {
		return nil, err
	}
	f, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "open", Path: dest, Err: err}, root.Close())
	}
	return &directory{root: root, fd: fd, uid: os.Getuid(), gid: os.Getgid(), lastFD: -1}, nil
}

func (d *directory) close() error {
	d.release()
	return errors.Join(unix.Close(d.fd), d.root.Close())
}

func (d *directory) release() {
	if d.lastFD >= 0 {
		_ = unix.Close(d.lastFD)
	}
	d.lastName, d.lastFD = "", -1
}

// open returns the file descriptor of a directory that was made before. It is valid until the next call.
func (d *directory) open(name string) (int, error) {
	if name == "." {
		return d.fd, nil
	}
	if name == d.lastName {
		return d.lastFD, nil
	}
	fd := d.fd
	for part := range strings.SplitSeq(name, "/") {
		next, err := unix.Openat(fd, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if fd != d.fd {
			_ = unix.Close(fd)
		}
		if err != nil {
			return -1, fail("open directory", name, err)
		}
		fd = next
	}
	d.release()
	d.lastName, d.lastFD = name, fd
	return fd, nil
}

func fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// mkdir makes a directory that the owner may write to, or makes do with the one that is there.
func (d *directory) mkdir(name string) error {
	parent, err := d.open(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		if st.Mode&0o700 == 0o700 {
			return nil
		}
		return d.reopen(parent, name, st.Mode)
	case err == nil:
		if err := unix.Unlinkat(parent, base, 0); err != nil {
			return fail("remove", name, err)
		}
	case !errors.Is(err, unix.ENOENT):
		return fail("stat", name, err)
	}
	return fail("make directory", name, unix.Mkdirat(parent, base, 0o700))
}

// reopen lets the owner into a directory that an earlier export closed.
func (d *directory) reopen(parent int, name string, mode uint32) error {
	// A link would not be changed but refused: the kernel has no chmod that follows none before 6.6.
	fd, err := unix.Openat(parent, path.Base(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open directory", name, err)
	}
	defer unix.Close(fd)
	return fail("change mode of", name, unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode&0o7777|0o700))
}

// replace has write make something under a new name in the directory of name, and puts it in name's place.
func (d *directory) replace(name string, write func(parent int, temp string) error) error {
	parent, err := d.open(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	temp := ".gobuild." + rand.Text()[:12]
	if err := write(parent, temp); err != nil {
		_ = unix.Unlinkat(parent, temp, 0)
		return err
	}
	err = unix.Renameat(parent, temp, parent, base)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err = d.root.RemoveAll(name); err == nil {
			err = unix.Renameat(parent, temp, parent, base)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(parent, temp, 0)
		return fail("rename to", name, err)
	}
	// Renaming one name of a file to another of the same file does nothing.
	_ = unix.Unlinkat(parent, temp, 0)
	return nil
}

// file writes a regular file with the contents that it has in tree.
func (d *directory) file(name string, h *tar.Header, tree fs.FS) error {
	return d.replace(name, func(parent int, temp string) error {
		fd, err := unix.Openat(parent, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return fail("make", name, err)
		}
		f := os.NewFile(uintptr(fd), name) //nolint:gosec // a file descriptor
		err = copyFile(f, tree, name)
		if err == nil {
			err = d.metadata(fd, name, h)
		}
		return errors.Join(err, f.Close())
	})
}

// special makes a link, a device or a pipe.
func (d *directory) special(name string, h *tar.Header) error {
	return d.replace(name, func(parent int, temp string) error {
		if h.Typeflag == tar.TypeSymlink {
			if err := unix.Symlinkat(h.Linkname, parent, temp); err != nil {
				return fail("make link", name, err)
			}
			return d.linkMetadata(parent, temp, name, h)
		}
		var kind uint32
		switch h.Typeflag {
		case tar.TypeChar:
			kind = unix.S_IFCHR
		case tar.TypeBlock:
			kind = unix.S_IFBLK
		case tar.TypeFifo:
			kind = unix.S_IFIFO
		default:
			return fmt.Errorf("make %q: files of type %q are not known", name, h.Typeflag)
		}
		dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))                //nolint:gosec // as in the header
		if err := unix.Mknodat(parent, temp, kind|0o600, int(dev)); err != nil { //nolint:gosec // as above
			return fail("make device or pipe", name, err)
		}
		if err := d.linkMetadata(parent, temp, name, h); err != nil {
			return err
		}
		return fail("change mode of", name, unix.Fchmodat(parent, temp, uint32(h.Mode&0o7777), 0)) //nolint:gosec // 12 bits
	})
}

// link gives a file that was written another name.
func (d *directory) link(name, target string) error {
	from, err := d.open(path.Dir(target))
	if err != nil {
		return err
	}
	if from, err = unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 0); err != nil { //nolint:gosec // a file descriptor
		return fail("open directory of", target, err)
	}
	defer unix.Close(from)
	return d.replace(name, func(parent int, temp string) error {
		return fail("link", name, unix.Linkat(from, path.Base(target), parent, temp, 0))
	})
}

// dirMetadata finishes a directory.
func (d *directory) dirMetadata(name string, h *tar.Header) error {
	fd, err := d.open(name)
	if err != nil {
		return err
	}
	return d.metadata(fd, name, h)
}

// metadata gives an open file owner, mode, attributes and time, in this order: a change of owner clears modes and
// capabilities.
func (d *directory) metadata(fd int, name string, h *tar.Header) error {
	if err := unix.Fchown(fd, d.uid, d.gid); err != nil {
		return fail("change owner of", name, err)
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil { //nolint:gosec // 12 bits
		return fail("change mode of", name, err)
	}
	for k, v := range h.PAXRecords {
		attr, ok := strings.CutPrefix(k, xattrPrefix)
		if !ok {
			continue
		}
		if err := unix.Fsetxattr(fd, attr, []byte(v), 0); err != nil && !mayLack(err) {
			return fail("set attribute "+attr+" of", name, err)
		}
	}
	// utimensat with no path would need AT_EMPTY_PATH; by way of /proc it works on every kernel.
	return fail("set time of", name, unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), times(h), 0))
}

// linkMetadata is metadata for what cannot be opened. Links have no mode, and no attributes that matter.
func (d *directory) linkMetadata(parent int, base, name string, h *tar.Header) error {
	if err := unix.Fchownat(parent, base, d.uid, d.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fail("change owner of", name, err)
	}
	return fail("set time of", name, unix.UtimesNanoAt(parent, base, times(h), unix.AT_SYMLINK_NOFOLLOW))
}

// mayLack tells attributes that the user may not set or the filesystem does not have. BuildKit does without
// them, too.
func mayLack(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EACCES)
}

func times(h *tar.Header) []unix.Timespec {
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	return []unix.Timespec{t, t}
}
