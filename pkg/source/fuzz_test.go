package source_test

import (
	"errors"
	"os"
	"path/filepath"
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
