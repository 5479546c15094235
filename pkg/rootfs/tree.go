// Package rootfs answers questions about file trees: the trees of image layers, read from
// their tar headers without extracting anything, and the trees of directories on disk.
//
// It resolves names the way a process chrooted into the tree would, so that no link, "..",
// or tar entry leads outside the tree.
package rootfs

import (
	"archive/tar"
	"crypto/sha256"
	"io/fs"
)

// Tree is a read-only file tree.
//
// Names are slash-separated, relative to the root of the tree and clean; the root is ".".
// Unlike fs.FS in general, names are arbitrary bytes: they need not be valid UTF-8. No method
// follows a symbolic link in any component of a name: use [Resolve] first. A name that does not
// exist, or that has a parent which is not a directory, gives an error that wraps
// fs.ErrNotExist.
//
// ReadDir sorts by name, bytewise. Open gives the contents of a regular file, and only of that.
// The Sys method of every FileInfo returns an [*Entry].
//
// A Tree is safe for concurrent use. The caller closes what Open returns. A directory tree
// must not change while it is in use; a file that did is reported when it is read.
type Tree interface {
	fs.ReadLinkFS
	fs.ReadDirFS
}

// Entry is all that is known of one file of a [Tree].
type Entry struct {
	// Header describes the file as a layer would: Name is the path in the tree without a
	// leading or trailing slash, Mode the permission, setuid, setgid and sticky bits, and
	// PAXRecords the extended attributes under "SCHILY.xattr.". Typeflag is never
	// tar.TypeLink: each name of a hard-linked file carries the header of the file. Readers
	// must not modify it.
	Header *tar.Header

	// Inode is equal for the names of one hard-linked file within one tree. Zero says that
	// the file has only this name.
	Inode uint64

	// Digest is the SHA-256 of the contents of a regular file, or zero when it is not known
	// without reading the file.
	Digest [sha256.Size]byte
}

// EntryOf returns the entry behind a FileInfo of a [Tree], or nil for a FileInfo of
// anything else.
func EntryOf(fi fs.FileInfo) *Entry {
	e, _ := fi.Sys().(*Entry)
	return e
}
