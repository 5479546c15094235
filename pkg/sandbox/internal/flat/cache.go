package flat

import (
	"context"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/step"
)

var _ sandbox.CacheKeeper = (*Driver)(nil)

// CachePrepared implements sandbox.CacheKeeper.
func (d *Driver) CachePrepared(dir string) (bool, error) {
	p, err := d.open()
	if err != nil {
		return false, err
	}
	return step.CachePrepared(p.worker, dir)
}

// RemoveCache implements sandbox.CacheKeeper.
func (d *Driver) RemoveCache(ctx context.Context, dir string) error {
	p, err := d.open()
	if err != nil {
		return err
	}
	return step.RemoveCache(ctx, p.worker, dir)
}
