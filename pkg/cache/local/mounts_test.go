package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/cache/local"
)

// take takes a cache and returns its directory and what gives it back.
func take(t *testing.T, s *local.Store, id, sharing string) (string, func()) {
	t.Helper()
	dir, release, err := s.Mount(t.Context(), id, sharing)
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	}
}

func TestMountIsShared(t *testing.T) {
	work := t.TempDir()
	one, two := open(t, work), open(t, work)
	a, releaseA := take(t, one, "go/../x", "shared")
	b, releaseB := take(t, two, "go/../x", "shared")
	if a != b {
		t.Errorf("one cache is at %q and at %q", a, b)
	}
	other, releaseOther := take(t, two, "go", "shared")
	if other == a {
		t.Error("two caches are one")
	}
	for _, release := range []func(){releaseA, releaseB, releaseOther} {
		release()
	}
}

// TestLockedMountWaits holds that a locked cache is nobody else's, whatever they say.
func TestLockedMountWaits(t *testing.T) {
	work := t.TempDir()
	one, two := open(t, work), open(t, work)
	_, release := take(t, one, "id", "locked")
	for _, sharing := range []string{"locked", "shared"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		done := make(chan error)
		go func() {
			_, _, err := two.Mount(ctx, "id", sharing)
			done <- err
		}()
		cancel(stopped)
		if err := <-done; !errors.Is(err, stopped) {
			t.Errorf("%s: %v, want to wait until it is stopped", sharing, err)
		}
	}
	release()
	_, release = take(t, two, "id", "locked")
	release()
}

func TestPrivateMountsAreApart(t *testing.T) {
	s := open(t, t.TempDir())
	a, releaseA := take(t, s, "id", "private")
	b, releaseB := take(t, s, "id", "private")
	if a == b {
		t.Error("two processes have one private cache")
	}
	releaseA()
	if again, release := take(t, s, "id", "private"); again != a {
		t.Errorf("a free copy at %q is not used, but %q", a, again)
	} else {
		release()
	}
	releaseB()
}

func TestMountOutlivesTheStore(t *testing.T) {
	work := t.TempDir()
	dir, release := take(t, open(t, work), "id", "shared")
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	release()
	again, release := take(t, open(t, work), "id", "locked")
	defer release()
	if _, err := os.Stat(filepath.Join(again, "f")); err != nil {
		t.Error(err)
	}
}

func TestPruneRemovesMounts(t *testing.T) {
	work := filepath.Join(t.TempDir(), "odd[name]")
	s, err := local.Open(t.Context(), work)
	if err != nil {
		t.Fatal(err)
	}
	dir, release := take(t, s, "id", "shared")
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := local.Prune(t.Context(), work, local.PruneOptions{})
	if err != nil || p.Bytes < 4 {
		t.Errorf("pruned %+v, %v", p, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the cache is still there")
	}
}
