// Package fileop computes what COPY, ADD and WORKDIR do as changes against the list of files
// below them, without a root filesystem.
package fileop

import (
	"context"
	"errors"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Copy is one COPY or ADD, with all words expanded.
type Copy struct {
	// Sources are copied one after another, so that later ones win.
	Sources []Source
	// Dest is absolute; a trailing slash, or "/." at the end, says that it is a directory.
	Dest string
	// Chown is "user", "user:group" or the numeric forms; empty keeps the owners of Source.
	Chown string
	// Chmod is octal or symbolic; empty keeps modes.
	Chmod string
	// Unpack unpacks sources that are archives into Dest, as ADD does.
	Unpack bool
	// Parents keeps the parents of a source's path, after its "/./" if it has one.
	Parents bool
	// Link computes the copy against an empty tree, whatever base Changes is given.
	Link bool
	// Exclude are patterns, relative to a source that is a directory, of what is not copied.
	Exclude []string
	// Time is given to directories that are made and to inline files.
	Time time.Time
	// TempDir receives the contents of archives that are unpacked. Empty: os.TempDir.
	TempDir string
}

// Source is where a Copy takes files from: a path in a tree, or an inline file.
type Source struct {
	// Tree is the build context, or the files of a stage or an image.
	Tree rootfs.Tree
	// Path is a path or a pattern in Tree; it begins at the root of Tree, whether it has a leading slash
	// or not, and cannot lead out of it.
	Path string
	// KeepOwner keeps the owners that files have in Tree; otherwise root owns them.
	KeepOwner bool
	// Inline, when not nil, is the source instead of Tree and Path.
	Inline *Inline
}

// Inline is a file whose contents stand in the Dockerfile.
type Inline struct {
	Name string // base name
	Data string
	Mode int64
}

// Selection is what a Copy copies. It is not safe for concurrent use.
type Selection struct{}

// Select finds the files that c copies and reports what is missing. It reads no contents, but the first
// bytes of regular files that Unpack may unpack. Close the selection when the changes made from it have been read.
func (c Copy) Select(ctx context.Context) (*Selection, error) {
	return nil, errors.ErrUnsupported
}

// Digest is a hash of everything of the selected files that the result of Changes depends on, but
// for base and modification times: their places relative to Dest, types, modes, link targets, extended attributes, contents, and
// owners where they are kept. Everything is framed, so that different selections do not hash the same bytes. It does not
// cover the other fields of Copy.
//
// Contents whose digest the tree does not know are read, several files at a time.
func (s *Selection) Digest(ctx context.Context) ([32]byte, error) {
	return [32]byte{}, errors.ErrUnsupported
}

// Changes are the selected files as they land on base, with their parents. Names in Chown are looked up in
// base's /etc/passwd and /etc/group. What cannot be done ends the sequence with an error. Readers opened from changes
// must be closed before the selection is.
func (s *Selection) Changes(ctx context.Context, base rootfs.Tree) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		yield(snapshot.Change{}, errors.ErrUnsupported)
	}
}

// Close removes temporary files. It may be called again.
func (s *Selection) Close() error { return nil }

// WorkDir makes the directory path and its parents where base does not have them, owned by user, which is
// looked up as USER is: empty is root. What is there keeps its owner and mode.
func WorkDir(base rootfs.Tree, path, user string, t time.Time) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		yield(snapshot.Change{}, errors.ErrUnsupported)
	}
}
