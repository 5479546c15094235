package source

import (
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
