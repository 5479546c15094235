package source_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobuild-dev/gobuild/pkg/source"
)

func TestParseGit(t *testing.T) {
	sum := strings.Repeat("a", 40)
	for address, want := range map[string]source.GitOptions{
		"https://github.com/foo/bar.git":            {Remote: "https://github.com/foo/bar.git"},
		"github.com/foo/bar#v1":                     {Remote: "https://github.com/foo/bar", Ref: "v1"},
		"git@host:foo/bar.git#refs/pull/1/head:d":   {Remote: "git@host:foo/bar.git", Ref: "refs/pull/1/head", Subdir: "d"},
		"ssh://git@host:22/x#:d/../e":               {Remote: "ssh://git@host:22/x", Subdir: "e"},
		"git://host/x?branch=a/b":                   {Remote: "git://host/x", Ref: "refs/heads/a/b"},
		"https://h/x.git?tag=v1&subdir=s":           {Remote: "https://h/x.git", Ref: "refs/tags/v1", Subdir: "s"},
		"https://h/x.git?commit=" + sum:             {Remote: "https://h/x.git", Checksum: sum},
		"https://h/x.git?checksum=ab&commit=ab":     {Remote: "https://h/x.git", Checksum: "ab"},
		"https://h/x.git?keep-git-dir&submodules":   {Remote: "https://h/x.git", KeepDir: true},
		"https://h/x.git?submodules=0&mtime=commit": {Remote: "https://h/x.git", SkipSubmodules: true, CommitTime: true},
		"https://h/x.git?checksum=" + sum + "&fetch-by-commit=true#main": {
			Remote: "https://h/x.git", Ref: "main", Checksum: sum, FetchByCommit: true,
		},
	} {
		got, git, err := source.ParseGit(address)
		if err != nil || !git {
			t.Errorf("%s: %v, %v", address, git, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", address, diff)
		}
	}
	for _, address := range []string{"", ".", "./x.git", "https://h/x", "https://h/x.tar", "dir://x", "gs://b/x", "x:y", "/x/y.git", "C:\\x"} {
		if _, git, err := source.ParseGit(address); git || err != nil {
			t.Errorf("%q: %v, %v", address, git, err)
		}
	}
	for _, address := range []string{"https://h/x.git?a=b", "https://h/x.git?checksum=a&commit=b", "https://h/x.git?tag=a&branch=b", "git@h:x?mtime=never"} {
		if _, git, err := source.ParseGit(address); !git || err == nil {
			t.Errorf("%q: %v, %v", address, git, err)
		}
	}
}
