package rootfs

import (
	"archive/tar"
	"io/fs"
	"time"
)

// FileInfo is the fs.FileInfo, and the fs.DirEntry, of a file whose entry is known. It is for
// those who implement [Tree].
type FileInfo struct {
	entry *Entry
}

// NewFileInfo returns the FileInfo of e. Its name is the last component of the header's name.
func NewFileInfo(e *Entry) *FileInfo { return &FileInfo{e} }

// Name is the last component of the file's name, "." for the root.
func (i *FileInfo) Name() string {
	_, base := split(i.entry.Header.Name)
	return base
}

// Size is the length of a regular file, and zero for anything else.
func (i *FileInfo) Size() int64 { return i.entry.Header.Size }

// Mode is the mode and type in the terms of io/fs.
func (i *FileInfo) Mode() fs.FileMode { return FileMode(i.entry.Header) }

// Type is the type bits of Mode.
func (i *FileInfo) Type() fs.FileMode { return i.Mode().Type() }

// ModTime is the modification time.
func (i *FileInfo) ModTime() time.Time { return i.entry.Header.ModTime }

// IsDir reports whether the file is a directory.
func (i *FileInfo) IsDir() bool { return i.entry.Header.Typeflag == tar.TypeDir }

// Info returns i.
func (i *FileInfo) Info() (fs.FileInfo, error) { return i, nil }

// Sys returns the [*Entry].
func (i *FileInfo) Sys() any { return i.entry }

func (i *FileInfo) String() string { return fs.FormatFileInfo(i) }

// The bits of Header.Mode above the permissions, as in chmod(2).
const (
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
)

// FileMode returns the mode and type of h in the terms of io/fs. Unlike tar.Header.FileInfo it
// looks at the permission bits of Mode only, never at type bits that a writer may have left there.
func FileMode(h *tar.Header) fs.FileMode {
	m := fs.FileMode(h.Mode & 0o777)
	if h.Mode&modeSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if h.Mode&modeSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if h.Mode&modeSticky != 0 {
		m |= fs.ModeSticky
	}
	switch h.Typeflag {
	case tar.TypeDir:
		m |= fs.ModeDir
	case tar.TypeSymlink:
		m |= fs.ModeSymlink
	case tar.TypeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case tar.TypeBlock:
		m |= fs.ModeDevice
	case tar.TypeFifo:
		m |= fs.ModeNamedPipe
	}
	return m
}

// isRegular reports whether entries of type flag have contents.
func isRegular(flag byte) bool {
	return flag == tar.TypeReg || flag == tar.TypeCont || flag == tar.TypeGNUSparse
}
