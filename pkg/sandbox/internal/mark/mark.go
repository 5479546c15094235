// Package mark notes on files the owner that they should have, where the disk cannot say: this user has but one id, so that
// all files belong to it.
//
// Regular files and directories bear their mark as an extended attribute, which goes where they go: it is renamed, linked and
// copied up by an overlay with them, and dies with them. Without a mark such a file is root's. Other files cannot have attributes
// of users; who marks them keeps a Table.
package mark

import (
	"bytes"
	"errors"
	"maps"
	"strconv"

	"golang.org/x/sys/unix"
)

// Xattr is the attribute. It is in no layer.
const Xattr = "user.gobuild.owner"

// Owner is a user and a group.
type Owner struct{ UID, GID int }

// Value is what the attribute of a file with that owner says.
func (o Owner) Value() []byte { return []byte(strconv.Itoa(o.UID) + ":" + strconv.Itoa(o.GID)) }

// Parse reads what Value has written; ok is false for anything else.
func Parse(value []byte) (o Owner, ok bool) {
	u, g, found := bytes.Cut(value, []byte{':'})
	if !found {
		return Owner{}, false
	}
	uid, err := strconv.ParseUint(string(u), 10, 32)
	if err != nil {
		return Owner{}, false
	}
	gid, err := strconv.ParseUint(string(g), 10, 32)
	if err != nil {
		return Owner{}, false
	}
	return Owner{int(uid), int(gid)}, true
}

// maxValue is the length of the longest value.
const maxValue = len("4294967295:4294967295")

// Read returns the mark of a file itself, not of what a link leads to. Files that have none, or of which nothing can be known, have
// ok false.
func Read(path string) (o Owner, ok bool) {
	var value [maxValue]byte
	n, err := unix.Lgetxattr(path, Xattr, value[:])
	if err != nil {
		return Owner{}, false
	}
	return Parse(value[:n])
}

// Follow is Read for the file to which path leads.
func Follow(path string) (o Owner, ok bool) {
	var value [maxValue]byte
	n, err := unix.Getxattr(path, Xattr, value[:])
	if err != nil {
		return Owner{}, false
	}
	return Parse(value[:n])
}

// Write marks a file itself with its owner; for root that is no mark.
func Write(path string, o Owner) error {
	if o != (Owner{}) {
		return unix.Lsetxattr(path, Xattr, o.Value(), 0)
	}
	err := unix.Lremovexattr(path, Xattr)
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}

// Bears reports whether files of that mode can bear a mark.
func Bears(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFREG || mode&unix.S_IFMT == unix.S_IFDIR
}

// File is what tells a file from others of its filesystem, those that had its number before it among them.
type File struct {
	Ino   uint64
	Birth int64 // nanoseconds; 0 where the filesystem does not know
}

// Table has the owners of files that cannot bear a mark.
type Table map[File]Owner

// FileOf returns the key of a file in a table; flags are those of statx.
func FileOf(dir int, path string, flags int) (f File, device uint64, err error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, path, flags, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return File{}, 0, err
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		f.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	f.Ino = st.Ino
	return f, unix.Mkdev(st.Dev_major, st.Dev_minor), nil
}

// Record is what is known about files where they have but one owner.
type Record struct {
	// Kept says that what was done about owners is on the files and in Table: a file that can bear a mark and has none is
	// root's. Otherwise marks are those of the layers alone, and files that replace others have theirs.
	Kept  bool
	Table Table
}

// Then adds what became known later.
func (r *Record) Then(later Record) {
	r.Kept = later.Kept
	if r.Table == nil {
		r.Table = make(Table, len(later.Table))
	}
	maps.Copy(r.Table, later.Table)
}
