package rootfs_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

func TestComparePaths(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) string {
		return rootfs.Clean(rapid.StringMatching(`[a./\-\x01]{0,6}`).Draw(t, "path"))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		if got, want := rootfs.ComparePaths(a, b), slices.Compare(components(a), components(b)); got != want {
			t.Fatalf("ComparePaths(%q, %q) = %d, want %d", a, b, got, want)
		}
	})
}

func components(name string) []string {
	if name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"": ".", ".": ".", "/": ".", "..": ".", "../..": ".", "a": "a", "a/": "a", "/a//b": "a/b", "./a/../../b": "b", "a/./b/..": "a", "..a/...": "..a/...",
	} {
		if got := rootfs.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}
