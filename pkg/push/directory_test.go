package push

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDirectoryFollowsNoLink: not even one that somebody puts there while an export goes on.
func TestDirectoryFollowsNoLink(t *testing.T) {
	outside, dest := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(outside, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := openDirectory(dest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := os.Symlink(outside, filepath.Join(dest, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "link/sub"} {
		if _, err := d.open(name); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	if err := d.link("inside", "link/sub"); err == nil {
		t.Error("linked to what is behind a link")
	}
}
