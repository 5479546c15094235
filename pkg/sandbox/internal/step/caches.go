package step

import (
	"context"
	"fmt"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/cachedir"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// CachePrepared does for drivers what sandbox.CacheKeeper says.
func CachePrepared(w *worker.Worker, dir string) (bool, error) {
	ok, err := cachedir.Prepared(cacheDir(w, dir))
	if err != nil {
		return false, fmt.Errorf("look for cache: %w", err)
	}
	return ok, nil
}

// RemoveCache does for drivers what sandbox.CacheKeeper says. If it does not come to its end, the cache is not
// prepared any more.
func RemoveCache(ctx context.Context, w *worker.Worker, dir string) error {
	own := cacheDir(w, dir)
	err := w.Remove(ctx, []string{cachedir.Rubbish(own)})
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
