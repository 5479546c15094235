// Package fileop computes what COPY, ADD and WORKDIR do as changes against the list of files
// below them, without a root filesystem.
//
// The rules are those of BuildKit's file operations. They are not a mapping from source names to
// destination names but a sequence of effects on a filesystem: a later source sees the links and
// directories that an earlier one made, an archive may replace what it has just made. So the
// effects are carried out, in the same sequence, on a tree in memory that lies over the base
// (type tree), and the changes are read off that tree at the end.
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
	// Chown is "user", "user:group" or the numeric forms; empty keeps the owners of the sources.
	Chown string
	// Chmod is octal or symbolic; empty keeps modes.
	Chmod string
	// Parents keeps the parents of a source's path, those after its "/./" if it has one.
	Parents bool
	// Link computes the copy against an empty tree, whatever base Changes is given. The parents of Dest then have
	// mode 0755, also with Chmod.
	Link bool
	// Exclude are patterns, relative to a source that is a directory, of what is not copied.
	Exclude []string
	// Time is given to directories that are made.
	Time time.Time
	// TempDir receives the contents of archives that are unpacked. Empty: os.TempDir.
	TempDir string
}

// Source is where a Copy takes files from: a path in a tree, or an inline file.
type Source struct {
	// Tree is the build context, or the files of a stage or an image.
	Tree rootfs.Tree
	// Path is a path or a pattern in Tree; it begins at the root of Tree, whether it has a
	// leading slash or not, and cannot lead out of it.
	Path string
	// Literal says that Path is no pattern, whatever is in it.
	Literal bool
	// Unpack unpacks a source that is an archive into Dest, as ADD does.
	Unpack bool
	// KeepOwner keeps the owners that files have in Tree; otherwise root owns them.
	KeepOwner bool
	// Inline, when not nil, is the source instead of Tree and Path.
	Inline *Inline
}

// Inline is a file whose contents stand in the Dockerfile.
type Inline struct {
	// Name is a base name.
	Name string
	Data string
	// Mode holds permission bits.
	Mode int64
	// Time is when the file was last modified.
	Time time.Time
}

// Changes are the selected files as they land on base, with their parents. A nil base is empty.
// Names in Chown are looked up in base's /etc/passwd and /etc/group.
//
// A file that base has already, with the same metadata and contents, is left out when that is known without
// reading it. The parents of what changes come with base's metadata, so that extractors that know no lower
// layers make them right.
//
// What cannot be done ends the sequence with an error. Readers opened from changes must be closed before the
// selection is.
func (s *Selection) Changes(ctx context.Context, base rootfs.Tree) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		t, err := s.place(ctx, base)
		if err != nil {
			yield(snapshot.Change{}, err)
			return
		}
		t.emit(ctx, yield)
	}
}

// Close removes temporary files, and lets go of the files: there may be hundreds of thousands. It may be called again.
func (s *Selection) Close() error {
	s.items = nil
	var errs []error
	for _, f := range s.spools {
		errs = append(errs, f.Close())
	}
	s.spools = nil
	return errors.Join(errs...)
}

// WorkDir makes the directory name and its parents where base does not have them, owned by
// user, which is "user", "user:group" or the numeric forms; empty is root, and so is a name that base's
// /etc/passwd does not have. What is there keeps its owner and mode, so that there may be no changes.
func WorkDir(ctx context.Context, base rootfs.Tree, name, user string, t time.Time) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		after, err := workDir(base, name, user, t)
		if err != nil {
			yield(snapshot.Change{}, err)
			return
		}
		after.emit(ctx, yield)
	}
}

func workDir(base rootfs.Tree, name, user string, tm time.Time) (*tree, error) {
	o, err := parseOwner(user)
	if err != nil {
		return nil, err
	}
	own, err := o.lookup(base, false)
	if err != nil {
		return nil, err
	}
	t, err := newTree(base)
	if err != nil {
		return nil, err
	}
	dir, err := t.resolve(rootName, name)
	if err != nil {
		return nil, err
	}
	return t, t.mkdirAll(dir, dirAttr{mode: defaultDirMode, owner: own, mtime: tm})
}
