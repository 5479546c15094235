package cachedir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
)

func write(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// What a killed process has left does not become part of the cache.
func TestPrepareAfterKill(t *testing.T) {
	dir, seed := filepath.Join(t.TempDir(), "c"), t.TempDir()
	write(t, filepath.Join(seed, "a", "b"))
	write(t, filepath.Join(Rubbish(dir), "half"))
	if ok, err := Prepared(dir); ok || err != nil {
		t.Errorf("prepared: %v, %v", ok, err)
	}
	data, err := Prepare(dir, Beginning{Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(data, "a", "b")) || exists(filepath.Join(data, "half")) || exists(Rubbish(dir)) {
		t.Error("the cache is not the seed")
	}
	if ok, err := Prepared(dir); !ok || err != nil {
		t.Errorf("prepared: %v, %v", ok, err)
	}
}

// A seed that cannot be copied leaves no cache, and another one can be tried.
func TestPrepareFails(t *testing.T) {
	dir, seed := t.TempDir(), t.TempDir()
	bad := filepath.Join(seed, ".wh.x")
	write(t, bad)
	write(t, filepath.Join(seed, "a"))
	if _, err := Prepare(dir, Beginning{Seed: seed}); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("error %v, want one that names %s", err, bad)
	}
	if ok, err := Prepared(dir); ok || err != nil {
		t.Errorf("prepared: %v, %v", ok, err)
	}
	if _, err := Prepare(dir, Beginning{Mode: 0o700}); err != nil {
		t.Error(err)
	}
}

// While somebody prepares the cache others wait, and then find theirs.
func TestPrepareWaits(t *testing.T) {
	dir := t.TempDir()
	held, err := lock.Hold(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for range 3 {
		g.Go(func() error {
			_, err := Prepare(dir, Beginning{Mode: 0o711})
			return err
		})
	}
	time.Sleep(100 * time.Millisecond)
	if exists(Rubbish(dir)) || exists(filepath.Join(dir, dataName)) {
		t.Error("somebody did not wait")
	}
	write(t, filepath.Join(dir, dataName, "first"))
	held.Close()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if !exists(filepath.Join(dir, dataName, "first")) {
		t.Error("the cache was prepared twice")
	}
}

func TestForget(t *testing.T) {
	dir := t.TempDir()
	if err := Forget(dir); err != nil {
		t.Errorf("without a cache: %v", err)
	}
	if _, err := Prepare(dir, Beginning{Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	if err := Forget(dir); err != nil {
		t.Error(err)
	}
	if ok, err := Prepared(dir); ok || err != nil {
		t.Errorf("prepared: %v, %v", ok, err)
	}
}
