package flat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/owners"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/step"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

var _ step.Source = (*root)(nil)

// root implements sandbox.Root.
type root struct {
	d    *Driver
	p    *place
	dir  string
	lock *os.File

	failed error
	closed bool
	// ran says that Run was called since the last Changes.
	ran bool
	// moved are files whose time of change Run has set since then.
	moved []diff.Moved
	// marks are of what is in the root.
	marks mark.Record
	// unseen are layers that were put into the root since Run.
	unseen []owners.Layer
	// reading is the sequence that is still to be consumed.
	reading *reading

	mu sync.Mutex // Commit may be called while other methods run
	// layers are those that the root is made of, the lowest first, as far as they are known.
	layers []v1.Layer
	// pending counts the Changes that wait for Commit, which closes committed and makes a new one.
	pending   int
	committed chan struct{}
	// missed says that layers no longer say what is in the root.
	missed bool
	owners []owners.Layer
}

// reading is the state of a sequence of changes. What it has not read yet must not change.
type reading struct {
	mu      sync.Mutex
	started bool
	dead    bool
	done    chan struct{}
}

func newRoot(ctx context.Context, d *Driver, p *place) (*root, error) {
	dir, held, err := p.newDir(ctx)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	return &root{d: d, p: p, dir: dir, lock: held, committed: make(chan struct{})}, nil
}

func (r *root) fs() string     { return filepath.Join(r.dir, "fs") }
func (r *root) record() string { return filepath.Join(r.dir, "record") }

// extract applies a layer to the root.
func (r *root) extract(ctx context.Context, l v1.Layer) error {
	if err := r.p.worker.Extract(ctx, l, r.fs(), r.d.o.Indexes, nil); err != nil {
		return fmt.Errorf("extract layer: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.layers = append(r.layers, l)
	if r.p.worker.Squash() {
		of := owners.Of(r.d.o.Indexes, l)
		r.owners, r.unseen = append(r.owners, of), append(r.unseen, of)
	}
	return nil
}

// good is nil as long as the root is open and nothing went wrong.
func (r *root) good() error {
	if r.closed {
		return errors.New("root is closed")
	}
	if r.failed != nil {
		return fmt.Errorf("root cannot be used after an error: %w", r.failed)
	}
	return nil
}

// usable waits until the changes before have been read.
func (r *root) usable(ctx context.Context) error {
	if err := r.good(); err != nil || r.reading == nil {
		return err
	}
	select {
	case <-r.reading.done:
		r.reading = nil
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run implements sandbox.Root.
func (r *root) Run(ctx context.Context, p sandbox.Process) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	r.ran = true
	spec := r.spec()
	var err error
	if spec.Special, err = owners.Special(ctx, r.unseen); err != nil {
		return err
	}
	spec.Table, r.unseen = r.marks.Table, nil
	result, err := step.Run(ctx, r.p.worker, spec, p)
	if len(result.Moved) > 0 {
		r.moved = append(r.moved, result.Moved)
	}
	r.marks.Then(result.Owners)
	if err != nil && r.d.o.Recover != nil {
		err = errors.Join(err, r.d.o.Recover())
	}
	r.failed = err
	return err
}

// Tree implements step.Source.
func (r *root) Tree(ctx context.Context, writable bool) (process.Tree, error) {
	tree := process.Tree{Dir: r.fs()}
	if !writable {
		return tree, r.good()
	}
	// What the process writes must not become part of changes that are being read.
	err := r.usable(ctx)
	r.ran = true
	return tree, err
}

// Changes implements sandbox.Root. The sequence must be consumed, or the root closed: the next call of any
// other method waits for that.
func (r *root) Changes(ctx context.Context) snapshot.Changes {
	if err := r.usable(ctx); err != nil {
		return func(yield func(snapshot.Change, error) bool) { yield(snapshot.Change{}, err) }
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending++
	if !r.ran {
		return func(func(snapshot.Change, error) bool) {}
	}
	r.ran = false
	changes := r.p.worker.Compare(ctx, r.fs(), r.record(), r.moved, r.marks, r.known)
	r.moved = nil
	if r.p.worker.Squash() {
		var given owners.Layer
		changes, given = owners.Give(ctx, changes, r.owners)
		r.owners = append(r.owners, given)
	}
	reading := &reading{done: make(chan struct{})}
	r.reading = reading
	return reading.guard(changes)
}

// guard lets others know when the sequence has been consumed.
func (g *reading) guard(changes snapshot.Changes) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		g.mu.Lock()
		dead := g.dead
		g.started = true
		g.mu.Unlock()
		if dead {
			yield(snapshot.Change{}, errors.New("root is closed"))
			return
		}
		defer close(g.done)
		changes(yield)
	}
}

// end waits for a sequence that is being consumed, and keeps one that is not from starting.
func (g *reading) end() {
	g.mu.Lock()
	g.dead = true
	started := g.started
	g.mu.Unlock()
	if started {
		<-g.done
	}
}

// below waits until the changes before have been committed, and returns the layers that the root is made of, or none
// if they do not say what is in it.
func (r *root) below(ctx context.Context) ([]v1.Layer, error) {
	for {
		r.mu.Lock()
		layers, missed, pending, committed := r.layers, r.missed, r.pending, r.committed
		r.mu.Unlock()
		switch {
		case missed:
			return nil, nil
		case pending <= 1: // the sequence that asks
			return layers, nil
		}
		select {
		case <-committed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// known looks files up in the layers.
func (r *root) known(ctx context.Context, names []string) ([]*diff.Known, error) {
	if len(names) == 0 {
		return nil, nil
	}
	layers, err := r.below(ctx)
	if err != nil {
		return nil, err
	}
	return diff.KnownIn(ctx, layers, rootfs.Options{Indexes: r.d.o.Indexes, TempDir: r.dir}, names)
}

// Commit implements sandbox.Root. What was committed is not kept, but its index helps to tell changes.
func (r *root) Commit(l v1.Layer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == 0 {
		return
	}
	r.pending--
	close(r.committed)
	r.committed = make(chan struct{})
	if l != nil {
		r.layers = append(r.layers, l)
	}
}

// Add implements sandbox.Root.
func (r *root) Add(ctx context.Context, l v1.Layer) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	if r.ran {
		return errors.New("add layer: the changes of the steps before it have not been taken")
	}
	r.mu.Lock()
	// The layer comes before those that are to be committed in the list, but not in the root.
	r.missed = r.missed || r.pending > 0
	r.mu.Unlock()
	err := r.extract(ctx, l)
	if err == nil {
		err = r.p.worker.Record(ctx, r.fs(), r.record())
	}
	if err != nil {
		r.failed = err
		return fmt.Errorf("add layer: %w", err)
	}
	return nil
}

// Close implements sandbox.Root.
func (r *root) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.reading != nil {
		r.reading.end()
	}
	err := r.p.worker.Remove(context.Background(), []string{r.dir})
	if closeErr := r.lock.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("close root: %w", err)
	}
	return nil
}
