package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Dir returns the tree of a directory on disk. Owners, modes, extended attributes, device
// numbers, hard links and nanosecond modification times are those on disk; digests are not known. Sockets
// are left out. So are the attribute security.selinux, which is the policy of this machine and not a
// property of the file, and attributes that may not be read, as trusted.* for an unprivileged user.
//
// Links swapped into the directory while it is read lead nowhere: names are opened beneath the
// directory without following any. Fifos and devices are never opened. Reading does not change
// access times where the kernel allows that.
//
// The tree holds a file descriptor, which is closed when the tree is no longer used.
func Dir(path string) (Tree, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	t := &diskTree{root: root, rootFD: int(root.Fd())}
	var st unix.Stat_t
	if err := unix.Fstat(t.rootFD, &st); err != nil {
		root.Close()
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	t.dev = st.Dev
	// Attributes are read by path. The path through /proc cannot be led astray; without /proc
	// there is only the one from the root of the filesystem.
	t.proc = unix.Access("/proc/self/fd/"+strconv.Itoa(t.rootFD), unix.F_OK) == nil
	return t, nil
}

// diskTree is the Tree of a directory.
type diskTree struct {
	root   *os.File
	rootFD int
	dev    uint64 // of the root
	proc   bool   // /proc/self/fd works
	// plain is set when the kernel, or a filter around us, refuses openat2.
	plain atomic.Bool
	// noListxattrat is set when it refuses listxattrat.
	noListxattrat atomic.Bool
}

// Open opens a regular file. It delivers as many bytes as the file has when it is opened, or an
// error that wraps io.ErrUnexpectedEOF when the file became shorter meanwhile.
func (t *diskTree) Open(name string) (fs.File, error) {
	if !valid(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if err := t.mayOpen(name); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	// If something else was put there meanwhile: O_NONBLOCK, so that a fifo does not block.
	const flags = unix.O_RDONLY | unix.O_NONBLOCK
	fd, err := t.open(name, flags|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		fd, err = t.open(name, flags) // not our file
	}
	if isNotDir(err) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return newDiskFile(t, name, fd)
}

// mayOpen tells whether name is a regular file, without opening what may not be one. It may be
// led astray by links in name, which the opening then is not.
func (t *diskTree) mayOpen(name string) error {
	defer runtime.KeepAlive(t)
	var st unix.Stat_t
	err := unix.Fstatat(t.rootFD, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	switch {
	case errors.Is(err, unix.ENAMETOOLONG):
		return nil // open can
	case isNotDir(err):
		return fs.ErrNotExist
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK:
		return fs.ErrNotExist
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errNotRegular
	}
	return err
}

// Stat is Lstat: a Tree follows no links.
func (t *diskTree) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name) }

// Lstat describes a file.
func (t *diskTree) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name) }

func (t *diskTree) stat(op, name string) (fi *FileInfo, err error) {
	dir, base := ".", "."
	if name != "." {
		dir, base = split(name)
	}
	err = t.within(op, name, dir, func(d *openDir) error {
		e, err := d.entry(name, base)
		if err == nil && e == nil { // a socket
			err = fs.ErrNotExist
		}
		if err == nil {
			fi = NewFileInfo(e)
		}
		return err
	})
	return fi, err
}

// ReadLink returns the target of a symbolic link.
func (t *diskTree) ReadLink(name string) (string, error) {
	fi, err := t.stat("readlink", name)
	if err != nil {
		return "", err
	}
	if fi.entry.Header.Typeflag != tar.TypeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: unix.EINVAL}
	}
	return fi.entry.Header.Linkname, nil
}

// ReadDir describes what is in a directory.
func (t *diskTree) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = t.within("readdir", name, name, func(d *openDir) error {
		names, err := d.names()
		if err != nil {
			return err
		}
		slices.Sort(names)
		list = make([]fs.DirEntry, 0, len(names))
		for _, base := range names {
			e, err := d.entry(join(name, base), base)
			if errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("%q vanished meanwhile", base)
			}
			if err != nil {
				return fmt.Errorf("%q: %w", base, err)
			}
			if e != nil {
				list = append(list, NewFileInfo(e))
			}
		}
		return nil
	})
	return list, err
}

// within calls do with the directory dir open. Errors become those of op on name.
func (t *diskTree) within(op, name, dir string, do func(*openDir) error) error {
	if !valid(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	fd, err := t.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		err = do(&openDir{tree: t, fd: fd, name: dir})
		unix.Close(fd)
	}
	switch {
	case err == nil:
		return nil
	case dir == name && name != "." && isNotDir(err):
		// Is it this name that is no directory, or a parent?
		if _, missing := t.stat(op, name); missing != nil {
			return missing
		}
		err = unix.ENOTDIR
	case isNotDir(err):
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// isNotDir reports whether a component that has to be a directory was something else.
func isNotDir(err error) bool { return errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) }

// openDir is a directory in use.
type openDir struct {
	tree *diskTree
	fd   int // O_PATH
	name string
	buf  [1 << 10]byte
}

// names lists the directory, unsorted.
func (d *openDir) names() ([]string, error) {
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.name)
	defer f.Close()
	return f.Readdirnames(-1)
}

// entry describes base in d, whose name in the tree is name. It returns nil for a socket.
func (d *openDir) entry(name, base string) (*Entry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT); err != nil {
		return nil, err
	}
	flag := typeflag(st.Mode)
	if flag == 0 {
		return nil, nil
	}
	h := &tar.Header{
		Typeflag: flag,
		Name:     name,
		Mode:     int64(st.Mode & 0o7777),
		Uid:      int(st.Uid),
		Gid:      int(st.Gid),
		ModTime:  time.Unix(st.Mtim.Unix()),
		Format:   tar.FormatPAX,
	}
	e := &Entry{Header: h}
	if flag != tar.TypeDir && st.Nlink > 1 {
		e.Inode = d.tree.inode(st.Dev, st.Ino)
	}
	switch flag {
	case tar.TypeReg:
		h.Size = st.Size
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case tar.TypeSymlink:
		target, err := readlinkat(d.fd, base, int(st.Size))
		if err != nil {
			return nil, err
		}
		h.Linkname = target
	}
	var err error
	h.PAXRecords, err = d.xattrs(base)
	return e, err
}

// typeflag is the tar type of a file of that mode, or 0 for a socket.
func typeflag(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return tar.TypeReg
	case unix.S_IFDIR:
		return tar.TypeDir
	case unix.S_IFLNK:
		return tar.TypeSymlink
	case unix.S_IFCHR:
		return tar.TypeChar
	case unix.S_IFBLK:
		return tar.TypeBlock
	case unix.S_IFIFO:
		return tar.TypeFifo
	}
	return 0
}

// inode numbers a hard-linked file: by its inode number on the device of the root, and by a hash,
// with the highest bit set to keep them apart, on another, as in a tree with mounts or on an overlay.
func (t *diskTree) inode(dev, ino uint64) uint64 {
	if dev == t.dev && ino>>63 == 0 {
		return ino
	}
	h := (dev ^ 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>29 ^ ino) * 0x94d049bb133111eb
	return h ^ h>>32 | 1<<63
}

func readlinkat(dirfd int, base string, size int) (string, error) {
	for size = max(size, 64) + 1; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dirfd, base, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
