package fileop_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/internal/fileop"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// TestFileThatChangesDuringTheBuild changes a file, to one of the same size, between the reading for the key and the
// one for the layer: with the second contents filed under the first key, every later build would be wrong.
func TestFileThatChangesDuringTheBuild(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := rootfs.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fileop.Copy{Sources: []fileop.Source{{Tree: tree, Path: "/f"}}, Dest: "/f"}.Select(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Digest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = snapshot.Write(t.Context(), s.Changes(t.Context(), nil), snapshot.Options{Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "changed during the build") {
		t.Errorf("error %v, want one that says that the file changed", err)
	}
}
