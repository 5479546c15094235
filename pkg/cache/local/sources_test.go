package local_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache/local"
)

// TestPruneSources: what was fetched goes by when it was last used, file by file and repository by repository.
func TestPruneSources(t *testing.T) {
	dir := t.TempDir()
	s, err := local.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-100 * time.Hour)
	for name, used := range map[string]time.Time{"http/old": old, "http/new": time.Now(), "git/old": old, "git/new": time.Now()} {
		name = filepath.Join(s.SourcesDir(), name)
		if filepath.Base(filepath.Dir(name)) == "git" {
			if err := os.MkdirAll(filepath.Join(name, "objects"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(name, "objects", "pack"), make([]byte, 10), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		} else if err := os.WriteFile(name, make([]byte, 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, used, used); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := local.Prune(t.Context(), dir, local.PruneOptions{KeepFor: 10 * time.Hour})
	if err != nil || p.Items != 2 || p.Bytes != 11 || p.BytesKept != 11 {
		t.Errorf("%+v, %v", p, err)
	}
	for name, left := range map[string]bool{"http/old": false, "http/new": true, "git/old": false, "git/new": true} {
		if _, err := os.Stat(filepath.Join(s.SourcesDir(), name)); (err == nil) != left {
			t.Errorf("%s: %v", name, err)
		}
	}
}
