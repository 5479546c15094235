// Package gitref reads references to git repositories as Dockerfiles and build contexts have them.
package gitref

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
)

// Ref names the files of a commit.
type Ref struct {
	// Remote is a URL, or the host:path form of ssh.
	Remote string
	// Ref is a branch, a tag, a full name of a reference or a commit; empty is the remote's HEAD.
	Ref string
	// Subdir is the directory of the checkout that becomes the root of the tree.
	Subdir string
	// Checksum is a commit or the beginning of one that the commit must have.
	Checksum string
	// KeepDir keeps .git.
	KeepDir bool
	// SkipSubmodules leaves submodules empty.
	SkipSubmodules bool
	// CommitTime gives all files the time of the commit, instead of that of the checkout.
	CommitTime bool
	// FetchByCommit fetches the commit Checksum by its id, whatever Ref names now.
	FetchByCommit bool
}

// Parsed is a reference as it was written.
type Parsed struct {
	Ref
	// MaybePath says that it might be a path just as well: github.com/owner/repository.
	MaybePath bool
	// SaysKeepDir says that the reference itself decides KeepDir.
	SaysKeepDir bool
}

// Parse reads a git URL with all that its fragment (#ref:subdir) or its query (?ref=, tag=, branch=, subdir=, checksum=,
// commit=, keep-git-dir=, submodules=, mtime=, fetch-by-commit=) says: https://host/repository.git, ssh://, git://,
// user@host:path, or github.com/owner/repository. It returns nil and no error for what is no git URL; an error is
// about what a git URL says.
func Parse(address string) (*Parsed, error) {
	ref, git, err := dfgitutil.ParseGitRef(address)
	switch {
	case !git:
		return nil, nil //nolint:nilerr // that it cannot be parsed says what it is not
	case err != nil:
		return nil, err
	}
	if err := checkQuery(address); err != nil {
		return nil, err
	}
	return &Parsed{
		Ref: Ref{
			Remote:         ref.Remote,
			Ref:            ref.Ref,
			Subdir:         ref.SubDir,
			Checksum:       ref.Checksum,
			KeepDir:        ref.KeepGitDir != nil && *ref.KeepGitDir,
			SkipSubmodules: ref.Submodules != nil && !*ref.Submodules,
			CommitTime:     ref.MTime == "commit",
			FetchByCommit:  ref.FetchByCommit,
		},
		MaybePath:   ref.IndistinguishableFromLocal,
		SaysKeepDir: ref.KeepGitDir != nil,
	}, nil
}

// checkQuery refuses two names for one thing with two values, of which the parser would take either.
func checkQuery(address string) error {
	address, _, _ = strings.Cut(address, "#")
	_, query, _ := strings.Cut(address, "?")
	q, _ := url.ParseQuery(query) // what is malformed in it was left out by the parser, too
	if a, b := q.Get("checksum"), q.Get("commit"); a != "" && b != "" && a != b {
		return fmt.Errorf("checksum conflicts: %q vs %q", a, b)
	}
	return nil
}
