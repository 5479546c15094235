package step

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/cachedir"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// Caches is what a driver can say and do about caches, whatever its roots are. Drivers embed it, and implement
// sandbox.CacheKeeper and sandbox.CacheSharer by that.
type Caches struct {
	worker  func() (*worker.Worker, error)
	indexes rootfs.Indexes
}

// NewCaches returns the caches of a driver for which w works. indexes, which may be nil, is given the indexes of layers
// that caches are filled with, and asked for those of layers that they are compared with.
func NewCaches(w func() (*worker.Worker, error), indexes rootfs.Indexes) Caches {
	return Caches{worker: w, indexes: indexes}
}

// CachePrepared implements sandbox.CacheKeeper.
func (c Caches) CachePrepared(dir string) (bool, error) {
	w, err := c.worker()
	if err != nil {
		return false, err
	}
	ok, err := cachedir.Prepared(cacheDir(w, dir))
	if err != nil {
		return false, fmt.Errorf("look for cache: %w", err)
	}
	return ok, nil
}

// RemoveCache implements sandbox.CacheKeeper.
func (c Caches) RemoveCache(ctx context.Context, dir string) error {
	w, err := c.worker()
	if err != nil {
		return err
	}
	own := cacheDir(w, dir)
	err = w.Remove(ctx, []string{cachedir.Rubbish(own)})
	if err == nil {
		err = cachedir.Forget(own)
	}
	if err == nil {
		err = w.Remove(ctx, []string{own})
	}
	if err != nil {
		return fmt.Errorf("remove cache: %w", err)
	}
	return nil
}

// CacheOwners implements sandbox.CacheSharer.
func (c Caches) CacheOwners() (bool, error) {
	w, err := c.worker()
	if err != nil {
		return false, err
	}
	return !w.Squash(), nil
}

// FillCache implements sandbox.CacheSharer.
func (c Caches) FillCache(ctx context.Context, dir string, layers []v1.Layer, note []byte) error {
	w, err := c.worker()
	if err != nil {
		return err
	}
	return holdAndFill(ctx, w, dir, layers, note, c.indexes)
}

// CacheNote implements sandbox.CacheSharer.
func (c Caches) CacheNote(dir string) ([]byte, error) {
	w, err := c.worker()
	if err != nil {
		return nil, err
	}
	return cachedir.Note(cacheDir(w, dir))
}

// ReadCache implements sandbox.CacheSharer.
func (c Caches) ReadCache(ctx context.Context, dir string, o sandbox.ReadCacheOptions) (sandbox.CacheReading, error) {
	w, err := c.worker()
	if err != nil {
		return nil, err
	}
	return readCache(ctx, w, dir, o, c.indexes)
}
