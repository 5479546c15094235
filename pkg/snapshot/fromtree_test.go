package snapshot_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

func TestFromTree(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"sub/d", "sub/e"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "first"), []byte("linked"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sub/d/2", "sub/d/1", "sub/e/3"} {
		if err := os.Link(filepath.Join(root, "first"), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := rootfs.Dir(root)
	if err != nil {
		t.Fatal(err)
	}
	for sub, want := range map[string]string{
		".":     "first=linked sub/ sub/d/ sub/d/1->first sub/d/2->first sub/e/ sub/e/3->first",
		"sub":   "d/ d/1=linked d/2->d/1 e/ e/3->d/1",
		"sub/d": "1=linked 2->1",
	} {
		b := write(t, snapshot.Options{}, slices.Collect(first(snapshot.FromTree(tree, sub)))...)
		var got []string
		for rec := range b.Index.All() {
			s := rec.Header.Name
			switch {
			case rec.Header.Linkname != "":
				s += "->" + rec.Header.Linkname
			case rec.Header.Size > 0:
				s += "=linked"
			default:
				s += "/"
			}
			got = append(got, s)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("FromTree(%q) is %q, want %q", sub, got, want)
		}
	}
	for range snapshot.FromTree(tree, ".") {
		break
	}
	for _, err := range snapshot.FromTree(tree, "missing") {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("FromTree(missing): %v", err)
		}
	}
}

// first drops the errors, of which there are none.
func first(changes snapshot.Changes) func(func(snapshot.Change) bool) {
	return func(yield func(snapshot.Change) bool) {
		for c := range changes {
			if !yield(c) {
				return
			}
		}
	}
}

// What goes through a layer and a tree comes out the same.
func TestFromTreeOfLayer(t *testing.T) {
	var list []snapshot.Change
	for _, c := range oneOfEach() {
		if c.Kind == snapshot.Add && c.Header.Name != "." && !strings.HasPrefix(c.Header.Name, "dir/opaque") {
			list = append(list, c)
		}
	}
	a := write(t, snapshot.Options{}, list...)
	tree, err := rootfs.Of(t.Context(), []v1.Layer{a}, rootfs.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	b, err := snapshot.Write(t.Context(), snapshot.FromTree(tree, "."), snapshot.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if da, db := must(a.DiffID()), must(b.DiffID()); da != db {
		t.Errorf("diff ID %v, was %v", db, da)
	}
	if da, db := must(a.Digest()), must(b.Digest()); da != db {
		t.Errorf("digest %v, was %v", db, da)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
