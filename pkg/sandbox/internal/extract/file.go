package extract

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
)

// file makes, or replaces, a file of any type.
func (x *Extractor) file(in place, base string, h *tar.Header, body io.Reader) error {
	name := in.join(base)
	hid, err := x.clear(&in, base, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	made, err := x.create(in, base, h, body)
	if err != nil || !made {
		return err
	}
	if in, err = x.tree.dir(in.path); err != nil {
		return err
	}
	x.mark(name)
	if h.Typeflag == tar.TypeDir {
		delete(x.implicit, name)
		x.dirTimes[name] = dirTime{h.ModTime, true}
		if hid {
			if err := unix.Lsetxattr(procPath(in.fd, base), union.OpaqueXattr(x.o.UserXattr), []byte{'y'}, 0); err != nil {
				return err
			}
		}
	}
	return x.attributes(in, base, h)
}

// clear removes what is in the place of a file that is to be made, but leaves a directory for
// a directory. It reports whether what was there, a whiteout or a file, hid a directory of the layers below.
func (x *Extractor) clear(in *place, base string, dir bool) (hid bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(in.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir && dir {
		return false, nil
	}
	if err := x.remove(*in, base, st.Mode); err != nil {
		return false, err
	}
	*in, err = x.tree.dir(in.path)
	return !x.o.Flat && !isDir, err
}

// create makes the file without its attributes. It reports false when there is nothing to give
// attributes to.
func (x *Extractor) create(in place, base string, h *tar.Header, body io.Reader) (bool, error) {
	switch h.Typeflag {
	case tar.TypeDir:
		err := unix.Mkdirat(in.fd, base, 0o700)
		if errors.Is(err, unix.EEXIST) {
			err = nil
		}
		return true, err
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse, tar.TypeCont: //nolint:staticcheck // old archives have TypeRegA
		return true, x.regular(in, base, h, body)
	case tar.TypeSymlink:
		return true, unix.Symlinkat(h.Linkname, in.fd, base)
	case tar.TypeLink:
		return x.hardLink(in, base, h)
	case tar.TypeFifo:
		return true, unix.Mknodat(in.fd, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar:
		return x.device(in, base, unix.S_IFCHR, h)
	case tar.TypeBlock:
		return x.device(in, base, unix.S_IFBLK, h)
	}
	return false, fmt.Errorf("unknown type %q", h.Typeflag)
}

func (x *Extractor) regular(in place, base string, h *tar.Header, body io.Reader) error {
	fd, err := unix.Openat(in.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	sparse := isSparse(h)
	for left := h.Size; left > 0; {
		n, err := io.ReadFull(body, x.buf[:min(left, int64(len(x.buf)))])
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if left -= int64(n); sparse && isZero(x.buf[:n]) {
			_, err = unix.Seek(fd, int64(n), io.SeekCurrent)
		} else {
			err = writeAll(fd, x.buf[:n])
		}
		if err != nil {
			return err
		}
	}
	if sparse {
		return unix.Ftruncate(fd, h.Size)
	}
	return nil
}

// isSparse reports whether the archive leaves the zeros of a file out; so does the disk then, or a few bytes could fill
// it.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

func isZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		p = p[max(n, 0):]
	}
	return nil
}

// hardLink makes a link, or remembers it when only lower layers can have its target.
func (x *Extractor) hardLink(in place, base string, h *tar.Header) (bool, error) {
	target := h.Linkname
	dir, file := path.Split(clean(target))
	if file == "." {
		return false, errors.New("link to the root")
	}
	name := in.join(base)
	// Opening a directory may close the one that is in use.
	from, err := x.tree.dir(clean(dir))
	if err != nil {
		return false, err
	}
	fd, err := unix.FcntlInt(uintptr(from.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if in, err = x.tree.dir(in.path); err != nil {
		return false, err
	}
	var st unix.Stat_t
	err = unix.Fstatat(fd, file, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) && !x.o.Flat {
		x.links = append(x.links, link{name, from.join(file), h})
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("link to %q: %w", target, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, fmt.Errorf("link to directory %q", target)
	}
	if union.IsWhiteout(&st) {
		return false, fmt.Errorf("link to %q, which the layer removes", target)
	}
	return true, unix.Linkat(fd, file, in.fd, base, 0)
}

// device makes a device node. Where that is not permitted there is none, which later changes do
// not report as a removal, since they are told from what is on disk.
func (x *Extractor) device(in place, base string, mode uint32, h *tar.Header) (bool, error) {
	if mode == unix.S_IFCHR && h.Devmajor == 0 && h.Devminor == 0 {
		return false, nil // overlayfs takes it for a whiteout
	}
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	err := unix.Mknodat(in.fd, base, mode|0o600, int(dev))
	if errors.Is(err, unix.EPERM) {
		return false, nil
	}
	return true, err
}

// attributes gives a file its owner, mode, extended attributes and times, in this order: a new
// owner clears setuid bits and capabilities, and all of them touch the times.
func (x *Extractor) attributes(in place, base string, h *tar.Header) error {
	if !x.o.Squash {
		if err := unix.Fchownat(in.fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(h.Uid, h.Gid, err)
		}
	}
	if err := chmod(in.fd, base, h); err != nil {
		return err
	}
	if x.o.Squash {
		if err := noteOwner(procPath(in.fd, base), h); err != nil {
			return err
		}
	}
	for key, value := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(key, inode.XattrRecord); ok {
			if err := setXattr(in.fd, base, attr, value); err != nil {
				return err
			}
		}
	}
	return setTime(in.fd, base, h.ModTime)
}

// noteOwner marks a file with its owner. Files that cannot bear a mark, and filesystems that know none, do without.
func noteOwner(name string, h *tar.Header) error {
	err := mark.Write(name, mark.Owner{UID: h.Uid, GID: h.Gid})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note owner: %w", err)
	}
	return nil
}

func chownError(uid, gid int, err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("owner %d:%d is not mapped here: give this user more subordinate ids in /etc/subuid and /etc/subgid: %w", uid, gid, err)
	}
	return err
}

// chmod sets the mode of a file, but not of a symbolic link: it has none, and the call would follow it out of
// the root.
func chmod(at int, base string, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeSymlink:
		return nil
	case tar.TypeLink:
		var st unix.Stat_t
		if err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil
		}
	}
	return unix.Fchmodat(at, base, uint32(h.Mode)&0o7777, 0)
}

// setXattr sets an extended attribute, unless it is one that means something to overlayfs or to us. What the filesystem
// or our privileges do not allow is left out.
func setXattr(at int, base, attr, value string) error {
	if strings.HasPrefix(attr, union.TrustedPrefix) || strings.HasPrefix(attr, union.UserPrefix) || attr == mark.Xattr {
		return nil
	}
	err := unix.Lsetxattr(procPath(at, base), attr, []byte(value), 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set attribute %q: %w", attr, err)
	}
	return nil
}

// dirTime is the time that a directory gets in the end.
type dirTime struct {
	time  time.Time
	given bool
}

func setTime(at int, base string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil || t.IsZero() {
		ts = unix.Timespec{}
	}
	return unix.UtimesNanoAt(at, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
