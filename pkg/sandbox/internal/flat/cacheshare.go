package flat

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/step"
)

var _ sandbox.CacheSharer = (*Driver)(nil)

// CacheOwners implements sandbox.CacheSharer.
func (d *Driver) CacheOwners() (bool, error) {
	p, err := d.open()
	if err != nil {
		return false, err
	}
	return !p.worker.Squash(), nil
}

// FillCache implements sandbox.CacheSharer.
func (d *Driver) FillCache(ctx context.Context, dir string, layers []v1.Layer, note []byte) error {
	p, err := d.open()
	if err != nil {
		return err
	}
	return step.FillCache(ctx, p.worker, dir, layers, note, d.o.Indexes)
}

// CacheNote implements sandbox.CacheSharer.
func (d *Driver) CacheNote(dir string) ([]byte, error) {
	p, err := d.open()
	if err != nil {
		return nil, err
	}
	return step.CacheNote(p.worker, dir)
}

// ReadCache implements sandbox.CacheSharer.
func (d *Driver) ReadCache(ctx context.Context, dir string, o sandbox.ReadCacheOptions) (sandbox.CacheReading, error) {
	p, err := d.open()
	if err != nil {
		return nil, err
	}
	return step.ReadCache(ctx, p.worker, dir, o, d.o.Indexes)
}
