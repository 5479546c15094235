package dir_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/dir"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
)

// counted counts how often blobs are opened.
type counted struct {
	*dir.Bucket
	reads *int
}

func (c counted) Get(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "blobs/") {
		*c.reads++
	}
	return c.Bucket.Get(ctx, name, off)
}

func open(t *testing.T, b blob.Bucket) *blob.Store {
	t.Helper()
	s := blob.New(b)
	t.Cleanup(func() { s.Close() })
	return s
}

// find returns the file that has the digest in its name.
func find(t *testing.T, root string, digest v1.Hash) string {
	t.Helper()
	found := ""
	_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, _ error) error {
		if strings.Contains(path, digest.Hex) {
			found = path
		}
		return nil
	})
	if found == "" {
		t.Fatalf("no file of %v", digest)
	}
	return found
}

func TestConformance(t *testing.T) {
	root := filepath.Join(t.TempDir(), "made[when]needed")
	reads := 0
	cachetest.RunShared(t, cachetest.Backend{
		Open:  func(t *testing.T) cachetest.Shared { return open(t, counted{dir.Open(root), &reads}) },
		Reads: func() int { return reads },
		Damage: func(t *testing.T, digest v1.Hash) {
			name := find(t, root, digest)
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[0] ^= 1
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Lose: func(t *testing.T, digest v1.Hash) { os.Remove(find(t, root, digest)) },
	})
	parts, _ := filepath.Glob(filepath.Join(root, ".part-*"))
	if len(parts) > 0 {
		t.Errorf("left behind: %q", parts)
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	root := t.TempDir()
	e := cache.Entry{Created: time.Now()}
	if err := open(t, dir.Open(root)).Put(t.Context(), cachetest.Key("k"), e); err != nil {
		t.Fatal(err)
	}
	before := listing(t, root)
	s := open(t, dir.Open(root))
	if _, err := s.Get(t.Context(), cachetest.Key("k")); err != nil {
		t.Error(err)
	}
	if _, err := s.List(t.Context()); err != nil {
		t.Error(err)
	}
	if after := listing(t, root); after != before {
		t.Errorf("reading changed the directory from\n%s\nto\n%s", before, after)
	}
}

func listing(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		b.WriteString(path + " " + fi.ModTime().String() + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLostLayerIsPutAnew(t *testing.T) {
	for name, harm := range map[string]func(string) error{
		"gone":    os.Remove,
		"damaged": func(name string) error { return os.WriteFile(name, []byte("12345"), 0o600) },
		"cut":     func(name string) error { return os.Truncate(name, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, dir.Open(root))
			l := cachetest.Layer("abcde")
			e := cache.Entry{Layer: l, Created: time.Unix(1, 0)}
			put := func() {
				t.Helper()
				if err := s.Put(t.Context(), cachetest.Key("k"), e); err != nil {
					t.Fatal(err)
				}
			}
			read := func() error {
				t.Helper()
				got, err := s.Get(t.Context(), cachetest.Key("k"))
				if err != nil {
					t.Fatal(err)
				}
				rc, err := got.Layer.Compressed()
				if err != nil {
					return err
				}
				defer rc.Close()
				_, err = io.Copy(io.Discard, rc)
				return err
			}
			put()
			digest, _ := l.Digest()
			if err := harm(find(t, root, digest)); err != nil {
				t.Fatal(err)
			}
			if err := read(); err == nil {
				t.Fatal("the layer could be read")
			}
			put()
			if err := read(); err != nil {
				t.Errorf("after it was put anew: %v", err)
			}
		})
	}
}

func TestPruneRemovesBlobsThatNobodyNames(t *testing.T) {
	root := t.TempDir()
	s := open(t, dir.Open(root))
	for i, name := range []string{"old", "new"} {
		e := cache.Entry{Layer: cachetest.Layer(name + " layer"), Created: time.Now().Add(-48 * time.Hour * time.Duration(1-i))}
		if err := s.Put(t.Context(), cachetest.Key(name), e); err != nil {
			t.Fatal(err)
		}
	}
	digest, _ := cachetest.Layer("old layer").Digest()
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(find(t, root, digest), long, long); err != nil {
		t.Fatal(err)
	}
	// What a build puts right now has no record yet.
	unnamed := filepath.Join(root, "blobs", "sha256-"+strings.Repeat("0", 64))
	if err := os.WriteFile(unnamed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := cache.Prune(t.Context(), s, cache.PruneOptions{KeepFor: 24 * time.Hour})
	if err != nil || p.Items != 1 || p.Kept != 1 {
		t.Fatalf("pruned %+v, %v", p, err)
	}
	if blobs, _ := filepath.Glob(filepath.Join(root, "blobs", "*")); len(blobs) != 2 {
		t.Errorf("blobs after pruning: %q, want the new one and the one that is being put", blobs)
	}
}

func TestNamesStayInside(t *testing.T) {
	b := dir.Open(t.TempDir())
	for _, name := range []string{"../x", "/x", "a/../../x", ""} {
		if _, err := b.Get(t.Context(), name, 0); err == nil {
			t.Errorf("Get(%q) succeeded", name)
		}
	}
}
