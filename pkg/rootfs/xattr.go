package rootfs

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// XattrPrefix is what the names of PAX records that hold extended attributes begin with.
const XattrPrefix = "SCHILY.xattr."

// xattrs returns the extended attributes of base as PAX records, or nil when there are none.
func (d *openDir) xattrs(base string) (map[string]string, error) {
	path := d.attrs + base
	n, err := unix.Llistxattr(path, d.buf[:])
	list := d.buf[:max(n, 0)]
	if errors.Is(err, unix.ERANGE) {
		list, err = grow(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return nil, nil
	case len(list) == 0 || err != nil:
		return nil, err
	}
	var records map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if name == "security.selinux" {
			continue
		}
		value, err := grow(func(buf []byte) (int, error) { return unix.Lgetxattr(path, name, buf) })
		if isUnreadable(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if records == nil {
			records = make(map[string]string)
		}
		records[XattrPrefix+name] = string(value)
	}
	return records, nil
}

// isUnreadable reports whether an attribute is not ours to read.
func isUnreadable(err error) bool {
	return errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EPERM) ||
		errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)
}

// grow calls read with larger buffers until what it reads fits.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := read(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > maxXattr {
			return nil, err
		}
	}
}

// maxXattr is beyond what Linux allows for a value or a list of names, 64 KiB.
const maxXattr = 128 << 10
