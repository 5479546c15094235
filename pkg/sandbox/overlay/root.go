package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/owners"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/step"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// parallel is how many layers of one root are extracted at a time. Reading one is mostly bound by its
// decompression, on one core.
const parallel = 4

// root implements sandbox.Root.
type root struct {
	d    *Driver
	s    *store
	id   string
	lock *os.File

	mu sync.Mutex // Commit may be called while other methods run
	// layers are what the root is made of, the lowest first.
	layers []*layer
	// sealed are those of them that wait for Commit; nil stands for Changes without a change.
	sealed []*layer
	// upper is the directory in which Run writes, "" when there was none since the last Changes.
	upper string
	// rubbish are directories that are removed in the end.
	rubbish []string
	runs    int
	// marks are of what is in upper, and of files that steps have seen.
	marks mark.Record
	// unseen are layers that were put into the root since Run.
	unseen []owners.Layer
	failed error
	closed bool
}

// layer is one directory of a root.
type layer struct {
	id string
	// diffID is zero as long as it is not known.
	diffID v1.Hash
	// own says that the directory is not known by a chain ID.
	own    bool
	owners owners.Layer
}

func newRoot(ctx context.Context, d *Driver, s *store) (*root, error) {
	lock, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	r := &root{d: d, s: s, lock: lock}
	if r.id, err = s.newDir("roots", 0o700); err == nil {
		for _, name := range []string{"mnt", "box"} {
			err = errors.Join(err, os.Mkdir(r.path(name), 0o755))
		}
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open root: %w", err)
	}
	return r, nil
}

func (r *root) path(name string) string { return filepath.Join(r.s.dir, "roots", r.id, name) }

// extractAll puts layers into the new root, several at a time.
func (r *root) extractAll(ctx context.Context, layers []v1.Layer) error {
	chains, err := chainIDs(layers)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	ids := make([]string, len(layers))
	done := make([]chan struct{}, len(layers))
	for i := range layers {
		done[i] = make(chan struct{})
	}
	for i, l := range layers {
		g.Go(func() error {
			// The layers below were started before, so that one of them is always getting on.
			id, err := r.d.layer(ctx, r.s, chains[i], l, func() ([]string, error) {
				for _, below := range done[:i] {
					select {
					case <-below:
					case <-ctx.Done():
						return nil, context.Cause(ctx)
					}
				}
				return r.s.paths(ids[:i]), nil
			})
			if err != nil {
				return err
			}
			ids[i] = id
			close(done[i])
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, l := range layers {
		diffID, err := l.DiffID()
		if err != nil {
			return err
		}
		r.layers = append(r.layers, &layer{id: ids[i], diffID: diffID, owners: r.ownersOf(l)})
		r.d.locate(diffID, r.s.data(ids[i]))
	}
	r.unsee(r.layers...)
	return nil
}

// Run implements sandbox.Root.
func (r *root) Run(ctx context.Context, p sandbox.Process) error {
	if err := r.usable(); err != nil {
		return err
	}
	spec, err := r.spec()
	if err == nil {
		spec.Special, err = owners.Special(ctx, r.unseen)
	}
	if err != nil {
		r.failed = err
		return err
	}
	spec.Table = r.marks.Table
	result, err := step.Run(ctx, r.s.worker, spec, p)
	r.marks.Then(result.Owners)
	r.unseen = nil
	r.failed = err
	return err
}

func (r *root) usable() error {
	if r.closed {
		return errors.New("root is closed")
	}
	if r.failed != nil {
		return fmt.Errorf("root cannot be used after an error: %w", r.failed)
	}
	return nil
}

// ids returns the directories of the layers, the lowest first.
func (r *root) ids() []string {
	out := make([]string, len(r.layers))
	for i, l := range r.layers {
		out[i] = l.id
	}
	return out
}

// owners returns the owners of the layers, the lowest first.
func (r *root) owners() []owners.Layer {
	out := make([]owners.Layer, len(r.layers))
	for i, l := range r.layers {
		out[i] = l.owners
	}
	return out
}

// unsee notes that layers are in the root which no step has seen.
func (r *root) unsee(layers ...*layer) {
	if !r.s.worker.Squash() {
		return
	}
	for _, l := range layers {
		r.unseen = append(r.unseen, l.owners)
	}
}

// ownersOf returns nil when owners are on disk.
func (r *root) ownersOf(l v1.Layer) owners.Layer {
	if !r.s.worker.Squash() {
		return nil
	}
	return owners.Of(r.d.o.Indexes, l)
}

// Changes implements sandbox.Root. The sequence may be consumed at any time before Close.
func (r *root) Changes(ctx context.Context) snapshot.Changes {
	if err := r.usable(); err != nil {
		return func(yield func(snapshot.Change, error) bool) { yield(snapshot.Change{}, err) }
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.upper == "" {
		r.sealed = append(r.sealed, nil)
		return func(func(snapshot.Change, error) bool) {}
	}
	l := &layer{id: r.upper, own: true}
	changes := r.s.worker.Upper(ctx, r.s.data(l.id), r.s.paths(r.ids()), r.marks)
	if r.s.worker.Squash() {
		changes, l.owners = owners.Give(ctx, changes, r.owners())
	}
	r.layers = append(r.layers, l)
	r.sealed = append(r.sealed, l)
	r.upper, r.marks.Kept = "", false
	return changes
}

// Commit implements sandbox.Root.
func (r *root) Commit(committed v1.Layer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sealed) == 0 {
		return
	}
	l := r.sealed[0]
	r.sealed = r.sealed[1:]
	switch {
	case l == nil:
		return
	case committed == nil:
		r.layers = slices.DeleteFunc(r.layers, func(o *layer) bool { return o == l })
		r.rubbish = append(r.rubbish, l.id)
		return
	}
	diffID, err := committed.DiffID()
	if err != nil {
		return // it is known to nobody then, and will be extracted when it is needed
	}
	r.d.locate(diffID, r.s.data(l.id))
	if b, ok := committed.(*snapshot.Blob); ok && b.Clamped {
		return // the contents are the layer's, but not the times
	}
	l.diffID = diffID
	r.publish()
}

// publish makes known those layers of which, with all below them, it is known what they are.
func (r *root) publish() {
	var chain v1.Hash
	for _, l := range r.layers {
		if l.diffID == (v1.Hash{}) {
			return
		}
		chain = chainID(chain, l.diffID)
		if !l.own {
			continue
		}
		if kept, err := r.s.publish(chain, l.id); err == nil && kept == l.id {
			l.own = false
		}
	}
}

// Add implements sandbox.Root.
func (r *root) Add(ctx context.Context, added v1.Layer) error {
	if err := r.usable(); err != nil {
		return err
	}
	if r.upper != "" {
		return errors.New("add layer: the changes of the steps before it have not been taken")
	}
	diffID, err := added.DiffID()
	if err != nil {
		return fmt.Errorf("add layer: %w", err)
	}
	l := &layer{diffID: diffID, owners: r.ownersOf(added)}
	r.mu.Lock()
	lower := r.s.paths(r.ids())
	chain, known := r.chain()
	r.mu.Unlock()
	below := func() ([]string, error) { return lower, nil }
	if known {
		l.id, err = r.d.layer(ctx, r.s, chainID(chain, diffID), added, below)
	} else {
		l.own = true
		l.id, err = r.d.extract(ctx, r.s, added, below)
	}
	if err != nil {
		return fmt.Errorf("add layer: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.layers = append(r.layers, l)
	r.unsee(l)
	r.publish()
	return nil
}

// chain returns the chain ID of all layers, if all have been committed.
func (r *root) chain() (chain v1.Hash, known bool) {
	for _, l := range r.layers {
		if l.diffID == (v1.Hash{}) {
			return chain, false
		}
		chain = chainID(chain, l.diffID)
	}
	return chain, true
}

// Close implements sandbox.Root.
func (r *root) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	if r.upper != "" {
		r.rubbish = append(r.rubbish, r.upper)
	}
	for _, l := range r.layers {
		if l.own {
			r.rubbish = append(r.rubbish, l.id)
		}
	}
	paths := r.s.paths(r.rubbish)
	paths = append(paths, filepath.Join(r.s.dir, "roots", r.id))
	err := r.s.worker.Remove(context.Background(), paths)
	if closeErr := r.lock.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("close root: %w", err)
	}
	return nil
}
