// Package inode describes files on disk as tar headers.
package inode

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
)

// XattrRecord is what the names of PAX records that hold extended attributes begin with.
const XattrRecord = "SCHILY.xattr."

// Type returns the tar type of a mode; ok is false for sockets, which archives do not have.
func Type(mode uint32) (flag byte, ok bool) {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return tar.TypeReg, true
	case unix.S_IFDIR:
		return tar.TypeDir, true
	case unix.S_IFLNK:
		return tar.TypeSymlink, true
	case unix.S_IFIFO:
		return tar.TypeFifo, true
	case unix.S_IFCHR:
		return tar.TypeChar, true
	case unix.S_IFBLK:
		return tar.TypeBlock, true
	}
	return 0, false
}

// Header describes the file at path, of which st is known, under name. The attributes of overlayfs itself are left
// out; a file that is marked with an owner has that.
func Header(path, name string, st *unix.Stat_t) (*tar.Header, error) {
	flag, ok := Type(st.Mode)
	if !ok {
		return nil, fmt.Errorf("describe %q: unknown type of mode %o", path, st.Mode)
	}
	h := &tar.Header{
		Typeflag: flag, Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	switch flag {
	case tar.TypeReg:
		h.Size = st.Size
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case tar.TypeSymlink:
		target, err := Readlink(path)
		if err != nil {
			return nil, fmt.Errorf("describe %q: %w", path, err)
		}
		h.Linkname = target
	}
	xattrs, owner, err := attributes(path)
	if err != nil {
		return nil, fmt.Errorf("describe %q: %w", path, err)
	}
	if owner != nil {
		h.Uid, h.Gid = owner.UID, owner.GID
	}
	if len(xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(xattrs))
		for k, v := range xattrs {
			h.PAXRecords[XattrRecord+k] = v
		}
	}
	return h, nil
}

// Readlink returns the target of a link.
func Readlink(path string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(path, buf[:])
	return string(buf[:max(n, 0)]), err
}

// Xattrs returns the extended attributes of a file, following no link, or nil. Attributes of overlayfs, and
// security labels, which are those of the host, are left out.
func Xattrs(path string) (map[string]string, error) {
	xattrs, _, err := attributes(path)
	return xattrs, err
}

// attributes returns the extended attributes of a file, and its mark.
func attributes(path string) (out map[string]string, owner *mark.Owner, err error) {
	list, err := grow(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if len(list) == 0 || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for part := range bytes.SplitSeq(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		attr := string(part)
		if strings.HasPrefix(attr, union.TrustedPrefix) || strings.HasPrefix(attr, union.UserPrefix) ||
			attr == "security.selinux" {
			continue
		}
		value, err := grow(func(buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) })
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP):
			continue
		case err != nil:
			return nil, nil, err
		}
		if attr == mark.Xattr {
			if o, ok := mark.Parse(value); ok {
				owner = &o
			}
			continue
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[attr] = string(value)
	}
	return out, owner, nil
}

// SameXattrs reports whether two files have the same extended attributes, and the same mark.
func SameXattrs(a, b string) (bool, error) {
	x, xOwner, err := attributes(a)
	if err != nil {
		return false, err
	}
	y, yOwner, err := attributes(b)
	if xOwner == nil {
		xOwner = &mark.Owner{}
	}
	if yOwner == nil {
		yOwner = &mark.Owner{}
	}
	return maps.Equal(x, y) && *xOwner == *yOwner, err
}

// grow calls read with larger buffers until the value fits.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	var small [256]byte
	n, err := read(small[:])
	if err == nil {
		return bytes.Clone(small[:n]), nil
	}
	for size := 4 << 10; errors.Is(err, unix.ERANGE) && size <= 1<<20; size *= 4 {
		buf := make([]byte, size)
		if n, err = read(buf); err == nil {
			return buf[:n], nil
		}
	}
	return nil, err
}
