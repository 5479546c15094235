// Package snapshot holds the change stream, the one form in which a step's effect on the
// filesystem travels, and its two ends: trees become changes, changes become a layer.
package snapshot

import (
	"archive/tar"
	"io"
	"iter"
)

// Kind says what a change does to its path.
type Kind uint8

const (
	// Add makes or replaces the file. A directory over a directory keeps what is in it.
	Add Kind = iota
	// Delete removes the file, or the directory with all that is below it.
	Delete
	// Opaque removes what lower layers have below the directory, and keeps or makes the directory.
	Opaque
)

// Change is one file that differs from the layers below.
type Change struct {
	Kind Kind
	// Header is the file as the layer shall carry it: owner, full mode, times, extended
	// attributes as "SCHILY.xattr." PAX records, and the link target. Name is clean and relative; it has neither
	// a whiteout prefix nor a trailing slash. For tar.TypeLink, Linkname is the path, in the same form, of a file
	// that came earlier in the same stream. For Delete only Name is used.
	Header *tar.Header
	// Open gives the contents, exactly Header.Size bytes, of a regular file; it is nil for
	// anything else and may be nil for an empty file. It is called at most once, before the next
	// change is asked for or later; the reader is closed by who opened it.
	Open func() (io.ReadCloser, error)
}

// Changes is a stream of changes sorted by path, comparing component by component and bytewise,
// so that parents come first; each path comes once. It is consumed once. After an error, which comes with
// a zero Change, the stream ends.
type Changes = iter.Seq2[Change, error]
