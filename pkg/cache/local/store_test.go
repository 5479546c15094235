package local_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
)

func open(t *testing.T, dir string) *local.Store {
	t.Helper()
	s, err := local.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	cachetest.Run(t, func(t *testing.T) cache.Store { return open(t, dir) })
}

// counting counts how often its bytes are asked for, and may give wrong ones.
type counting struct {
	v1.Layer
	reads atomic.Int32
	bytes []byte
}

func (l *counting) Compressed() (io.ReadCloser, error) {
	l.reads.Add(1)
	return io.NopCloser(bytes.NewReader(l.bytes)), nil
}

func TestBytesAreDownloadedOnce(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 500_000)
	l := &counting{Layer: static.NewLayer(data, types.OCILayer), bytes: data}
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			rc, err := s.Through(l).Compressed()
			if err != nil {
				t.Error(err)
				return
			}
			defer rc.Close()
			got, err := io.ReadAll(rc)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if n := l.reads.Load(); n != 1 {
		t.Errorf("downloaded %d times, want once", n)
	}
}

func TestWrongBytesAreNotKept(t *testing.T) {
	l := &counting{Layer: static.NewLayer([]byte("what was promised"), types.OCILayer), bytes: []byte("what was served")}
	s := open(t, t.TempDir())
	for range 2 {
		rc, err := s.Through(l).Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(rc); err == nil {
			t.Error("bytes with another digest were read without an error")
		}
		rc.Close()
	}
	if n := l.reads.Load(); n != 2 {
		t.Errorf("downloaded %d times, want twice: wrong bytes must not be kept", n)
	}
}

func TestKilledBuildLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	// What a killed build leaves: a directory with files, and a lock file that nobody holds.
	left := filepath.Join(dir, "tmp", "build-123")
	if err := os.MkdirAll(filepath.Join(left, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(left+".lock", old, old); err != nil {
		t.Fatal(err)
	}
	other := open(t, dir)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed build left is still there: %v", err)
	}
	open(t, dir)
	if _, err := os.Stat(other.TempDir()); err != nil {
		t.Errorf("the directory of a running build is gone: %v", err)
	}
}

func TestBlobThatIsGoneIsAMiss(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	e := cache.Entry{Layer: static.NewLayer([]byte("x"), types.OCILayer), Created: time.Now()}
	if err := s.Put(t.Context(), cachetest.Key("k"), e); err != nil {
		t.Fatal(err)
	}
	blobs, _ := filepath.Glob(filepath.Join(dir, "blobs", "*"))
	if len(blobs) != 1 {
		t.Fatalf("blobs: %v, want one", blobs)
	}
	os.Remove(blobs[0])
	if _, err := s.Get(t.Context(), cachetest.Key("k")); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get: %v, want ErrMiss", err)
	}
}

func TestPrune(t *testing.T) {
	fill := func(t *testing.T) string {
		dir := t.TempDir()
		s, err := local.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"old", "new"} {
			blob := filepath.Join(dir, "blobs", name)
			if err := os.WriteFile(blob, make([]byte, 1000), 0o600); err != nil {
				t.Fatal(err)
			}
			used := time.Now().Add(-48 * time.Hour * time.Duration(1-i))
			if err := os.Chtimes(blob, used, used); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, tc := range map[string]struct {
		o    local.PruneOptions
		kept int
	}{
		"everything":        {local.PruneOptions{}, 0},
		"by-age":            {local.PruneOptions{KeepFor: 24 * time.Hour}, 1},
		"by-age-none-old":   {local.PruneOptions{KeepFor: 100 * time.Hour}, 2},
		"by-size":           {local.PruneOptions{KeepBytes: 1500}, 1},
		"by-size-fits":      {local.PruneOptions{KeepBytes: 5000}, 2},
		"by-both-size-wins": {local.PruneOptions{KeepFor: 100 * time.Hour, KeepBytes: 1500}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := local.Prune(t.Context(), fill(t), tc.o)
			if err != nil || p.Kept != tc.kept || p.Items != 2-tc.kept {
				t.Errorf("pruned %+v, %v; want %d kept", p, err, tc.kept)
			}
		})
	}
}

func TestPruneWaitsForBuilds(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := local.Prune(ctx, dir, local.PruneOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Prune while a build runs: %v, want it to wait", err)
	}
}
