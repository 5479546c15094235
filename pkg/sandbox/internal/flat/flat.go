// Package flat is what drivers have in common that keep a root as one plain directory: all layers of a root are extracted
// into it, and what a step has changed is found by comparing it with a record of what was there before.
package flat

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/step"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// Options say where a driver keeps what, and how its steps enter a root.
type Options struct {
	// Name is the driver's.
	Name string
	// Dir is where roots are extracted. It is made when it is missing. Several processes may use it at
	// once.
	Dir string
	// Worker returns who does the privileged work with roots in dir, in children that run program.
	Worker func(dir string, program *sandbox.Program) (*worker.Worker, error)
	// Program is what children run; nil is this program. See sandbox.Program.
	Program *sandbox.Program
	// Recover puts right what a step that was killed has left, if that takes anything. It may be nil.
	Recover func() error
	// Bare has steps run without namespaces and mounts. It is nil for those that have them.
	Bare *process.Bare
	// Indexes is given the index of each layer that is extracted, and asked for what layers say about files that a
	// step may have changed. It may be nil.
	Indexes rootfs.Indexes
}

// Driver makes roots that are directories. It is safe for concurrent use.
type Driver struct {
	step.Caches
	o    Options
	open func() (*place, error) // once
}

// place is where this driver's roots are, and who works there.
type place struct {
	dir    string
	worker *worker.Worker
	bare   *process.Bare
}

var (
	_ sandbox.Driver      = (*Driver)(nil)
	_ sandbox.CacheKeeper = (*Driver)(nil)
	_ sandbox.CacheSharer = (*Driver)(nil)
	_ sandbox.Limited     = (*Driver)(nil)
)

// New returns a driver. Nothing is made before it is used.
func New(o Options) *Driver {
	d := &Driver{o: o}
	d.open = sync.OnceValues(d.openPlace)
	d.Caches = step.NewCaches(func() (*worker.Worker, error) {
		p, err := d.open()
		if err != nil {
			return nil, err
		}
		return p.worker, nil
	}, o.Indexes)
	return d
}

// Name implements sandbox.Driver.
func (d *Driver) Name() string { return d.o.Name }

// Roots implements sandbox.Driver: any number may be open.
func (d *Driver) Roots() int { return 0 }

func (d *Driver) openPlace() (*place, error) {
	dir, err := filepath.Abs(d.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open roots: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open roots: %w", err)
	}
	w, err := d.o.Worker(dir, d.o.Program)
	if err != nil {
		return nil, fmt.Errorf("open roots: %w", err)
	}
	return &place{dir: filepath.Join(dir, w.Variant()), worker: w, bare: d.o.Bare}, nil
}

// Open implements sandbox.Driver. It extracts all layers anew.
func (d *Driver) Open(ctx context.Context, layers []v1.Layer) (sandbox.Root, error) {
	p, err := d.open()
	if err != nil {
		return nil, err
	}
	r, err := newRoot(ctx, d, p)
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		if err = r.extract(ctx, l); err != nil {
			break
		}
	}
	if err == nil {
		err = p.worker.Record(ctx, r.fs(), r.record())
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("open root: %w", err)
	}
	return r, nil
}

// Limits implements sandbox.Limited.
func (d *Driver) Limits() string {
	p, err := d.open()
	if err != nil {
		return ""
	}
	return p.worker.Limits()
}

// Probe implements sandbox.Driver. It prepares all that steps find in an empty root.
func (d *Driver) Probe(ctx context.Context) error {
	p, err := d.open()
	if err != nil {
		return err
	}
	r, err := newRoot(ctx, d, p)
	if err != nil {
		return err
	}
	defer r.Close()
	spec := r.spec()
	spec.Probe, spec.Hostname = true, "probe"
	if _, err = p.worker.Run(ctx, &spec, nil, nil); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if hint := worker.Hint(p.worker, err); hint != nil {
		return hint
	}
	return fmt.Errorf("cannot prepare a root in %s: %w", p.dir, err)
}

// newDir makes the directory of a root, and holds the place for it.
func (p *place) newDir(ctx context.Context) (dir string, held *os.File, err error) {
	roots := filepath.Join(p.dir, "roots")
	if err := os.MkdirAll(roots, 0o755); err != nil {
		return "", nil, err
	}
	// Users of the machine must not reach programs with setuid bits and devices of images.
	if err := os.Chmod(p.dir, 0o700); err != nil {
		return "", nil, err
	}
	held, err = lock.Share(p.dir, func() error { return p.collect(ctx, roots) })
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(roots, strings.ToLower(rand.Text()[:10]))
	for _, name := range []string{"", "fs", "mnt", "box"} {
		if err = os.Mkdir(filepath.Join(dir, name), 0o755); err == nil {
			err = os.Chmod(filepath.Join(dir, name), 0o755)
		}
		if err != nil {
			held.Close()
			return "", nil, err
		}
	}
	return dir, held, nil
}

// collect removes the roots of dead processes.
func (p *place) collect(ctx context.Context, roots string) error {
	entries, err := os.ReadDir(roots)
	if err != nil {
		return err
	}
	var rubbish []string
	for _, e := range entries {
		rubbish = append(rubbish, filepath.Join(roots, e.Name()))
	}
	return p.worker.Remove(ctx, rubbish)
}

// spec describes the root's mount.
func (r *root) spec() process.Spec {
	return process.Spec{
		Root: process.Tree{Dir: r.fs()}, Mount: filepath.Join(r.dir, "mnt"), Box: filepath.Join(r.dir, "box"), Bare: r.p.bare,
	}
}
