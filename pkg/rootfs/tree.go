// Package rootfs answers questions about file trees: the trees of image layers, read from
// their tar headers without extracting anything, and the trees of directories on disk.
//
// It resolves names the way a process chrooted into the tree would, so that no link, "..",
// or tar entry leads outside the tree.
package rootfs

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"io/fs"
	"strings"
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

// ComparePaths orders clean names as [Walk] visits them: component by component, bytewise, a
// directory before what is in it, and the root, ".", first. The result is that of cmp.Compare.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		// The root comes before everything, and a slash, which ends a component, before any
		// other byte, as the end of the string does.
		switch {
		case a == "." || a[i] == '/':
			return -1
		case b == "." || b[i] == '/':
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	switch {
	case len(a) == len(b):
		return 0
	case a == ".":
		return -1
	case b == ".":
		return 1
	}
	return cmp.Compare(len(a), len(b))
}

// Clean returns name in the form that a [Tree] takes: relative to the root, clean, "." for the
// root itself. A ".." that leads above the root stays at the root. It follows no links: see [Resolve].
func Clean(name string) string {
	if valid(name) {
		return name
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			parts = parts[:max(0, len(parts)-1)]
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "."
	}
	return strings.Join(parts, "/")
}

// valid reports whether name is as a Tree takes it.
func valid(name string) bool {
	if name == "." {
		return true
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			if name[i] == 0 {
				return false
			}
			continue
		}
		switch name[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

// join appends a component to the name of a directory.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// split takes a name other than the root apart into its directory and its last component.
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return ".", name
	}
	return name[:i], name[i+1:]
}

// notExist is the error of an operation on a name that is not in a tree.
func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}
