// Package overlay runs steps on overlayfs: each layer is extracted once into a directory of its own, a
// root is a mount of them, and the upper directory of the mount is what a step has changed.
//
// It works as root and, with a user namespace, as an ordinary user.
package overlay

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/step"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// Options say where a driver keeps what.
type Options struct {
	// Dir is where layers are extracted. It must be on a filesystem on which an overlay can have
	// its upper directory, and is made when it is missing. Several processes may use it at once.
	Dir string
	// Indexes is given the index of each layer that is extracted. It may be nil.
	Indexes rootfs.Indexes
	// Program is what children run; nil is this program. See sandbox.Program.
	Program *sandbox.Program
}

// Driver is the overlay driver. It is safe for concurrent use.
type Driver struct {
	step.Caches
	o    Options
	open func() (*store, error) // once

	mu      sync.Mutex
	running map[v1.Hash]*extraction // by chain ID
	dirs    map[v1.Hash]string      // of layers that are at hand, by diff ID
}

var (
	_ sandbox.Driver      = (*Driver)(nil)
	_ sandbox.CacheKeeper = (*Driver)(nil)
	_ sandbox.CacheSharer = (*Driver)(nil)
	_ sandbox.Limited     = (*Driver)(nil)
	_ sandbox.Eager       = (*Driver)(nil)
)

// New returns a driver. Nothing is made before it is used.
func New(o Options) *Driver {
	d := &Driver{o: o, running: make(map[v1.Hash]*extraction), dirs: make(map[v1.Hash]string)}
	d.open = sync.OnceValues(d.openStore)
	d.Caches = step.NewCaches(func() (*worker.Worker, error) {
		s, err := d.open()
		if err != nil {
			return nil, err
		}
		return s.worker, nil
	}, o.Indexes)
	return d
}

// Name implements sandbox.Driver.
func (d *Driver) Name() string { return "overlay" }

// Roots implements sandbox.Driver: any number may be open.
func (d *Driver) Roots() int { return 0 }

func (d *Driver) openStore() (*store, error) {
	dir, err := filepath.Abs(d.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	w, err := worker.New(dir, d.o.Program)
	if err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	return &store{dir: filepath.Join(dir, w.Variant()), worker: w}, nil
}

// Open implements sandbox.Driver.
func (d *Driver) Open(ctx context.Context, layers []v1.Layer) (sandbox.Root, error) {
	s, err := d.open()
	if err != nil {
		return nil, err
	}
	r, err := newRoot(ctx, d, s)
	if err != nil {
		return nil, err
	}
	if err := r.extractAll(ctx, layers); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}
