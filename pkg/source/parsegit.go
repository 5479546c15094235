package source

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
)

// ParseGit reads a git URL with all that its fragment (#ref:subdir) and its query (?ref=, tag=, branch=, subdir=, checksum=,
// commit=, keep-git-dir=, submodules=, mtime=, fetch-by-commit=) say. Git says whether it is one at all:
// https://host/repository.git, ssh://, git://, user@host:path, or github.com/owner/repository, which a path of this
// system may be, too. The error is about what a git URL says.
func ParseGit(address string) (o GitOptions, git bool, err error) {
	ref, git, err := dfgitutil.ParseGitRef(address)
	if err != nil || ref == nil {
		if !git {
			err = nil
		}
		return GitOptions{}, git, err
	}
	if err := checkQuery(address); err != nil {
		return GitOptions{}, true, err
	}
	o = GitOptions{
		Remote:         ref.Remote,
		Ref:            ref.Ref,
		Subdir:         ref.SubDir,
		Checksum:       ref.Checksum,
		KeepDir:        ref.KeepGitDir != nil && *ref.KeepGitDir,
		SkipSubmodules: ref.Submodules != nil && !*ref.Submodules,
		CommitTime:     ref.MTime == "commit",
		FetchByCommit:  ref.FetchByCommit,
	}
	if ref.IndistinguishableFromLocal && !strings.Contains(o.Remote, "://") {
		o.Remote = "https://" + o.Remote
	}
	return o, true, nil
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
