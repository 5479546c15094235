package source_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// FuzzIgnore compares what a tree shows with what the patterns say of each path, going down from the root as
// BuildKit does: leaving out directories that cannot hold exceptions must make no difference.
func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"a\n!a/b", "**\n!**/c.go", "*\n!a\na/b/*\n!a/b/c.go", "[", "!", "\\a\n!?/b", "a/**/b\n!a/*", "\xef\xbb\xbf# x\n./a/../a/b"} {
		f.Add(s)
	}
	files := []string{"Dockerfile", "a/b/c.go", "a/b/d", "a/c/b/d", "b/a/b", "c.go", "d", "e/f/g/a", "!x/a"}
	dir := write(f, files...)
	f.Fuzz(func(t *testing.T, ignore string) {
		own := filepath.Join(t.TempDir(), "Dockerfile")
		must(t, os.WriteFile(own, nil, 0o600))
		must(t, os.WriteFile(own+".dockerignore", []byte(ignore), 0o600))
		c, err := source.Open(t.Context(), dir, source.Options{Dockerfile: own})
		if bad := (*source.IgnoreError)(nil); errors.As(err, &bad) {
			if bad.Line < 1 {
				t.Errorf("line %d", bad.Line)
			}
			return
		}
		if err != nil {
			return
		}
		m, err := patternmatcher.New(c.Ignore)
		must(t, err)
		seen := map[string]bool{}
		must(t, rootfs.Walk(c.Tree, ".", func(name string, _ *rootfs.Entry) error {
			seen[name] = true
			return nil
		}))
		for _, name := range files {
			var out bool
			var info patternmatcher.MatchInfo
			for i := range len(name) + 1 {
				if i == len(name) || name[i] == '/' {
					var err error
					out, info, err = m.MatchesUsingParentResults(name[:i], info)
					must(t, err)
				}
			}
			if out == seen[name] {
				t.Errorf("%q: ignored by %q: %v, but in the tree: %v", name, c.Ignore, out, seen[name])
			}
		}
	})
}

// FuzzParseGit holds that what is taken for a git URL gives options that NewGit takes or refuses, without running anything,
// and that no credentials of it are left in what names the remote.
func FuzzParseGit(f *testing.F) {
	for _, s := range []string{
		"https://github.com/foo/bar.git", "https://u:hush@host/bar.git#v1:dir/sub", "git@host:foo/bar.git?branch=x&subdir=y#", "github.com/foo/bar",
		"ssh://git@host:2222/x#refs/pull/1/head", "git://host/x?ref=a&checksum=012&keep-git-dir&submodules=false&mtime=commit&fetch-by-commit=1",
		"https://host/x.git#-a:../..", "-o@x:y", "u@-oProxyCommand=z:y", "http://[::1]:80/x.git?tag=a&branch=b", "https://host/x.git?a=%zz", "git://host?re%XC&checksum=70&commit=c",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, git, err := source.ParseGit(s)
		if err != nil && !git {
			t.Errorf("%q is no git URL, but an error: %v", s, err)
		}
		if err != nil || !git {
			return
		}
		if again, _, err := source.ParseGit(s); err != nil || again != o {
			t.Errorf("%q: %+v, then %+v, %v", s, o, again, err)
		}
		r, err := source.NewGit(o, source.Fetch{})
		if err != nil {
			return
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(o.Ref, "-") || strings.HasPrefix(o.Remote, "-") {
			t.Errorf("%q would be an option: %+v", s, o)
		}
	})
}
