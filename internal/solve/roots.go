package solve

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// roots opens root filesystems and hands them from process to process.
//
// A root follows a chain of steps: the next process on the layers that a root holds runs in it, even while
// the last layer is still being written. A second process on the same layers, in another stage, gets a root
// of its own.
type roots struct {
	choose func(ctx context.Context) (sandbox.Driver, error)
	once   sync.Once
	driver *future[sandbox.Driver]

	mu   sync.Mutex
	open []*openRoot
}

// openRoot is a root with what it holds.
type openRoot struct {
	root sandbox.Root

	mu   sync.Mutex
	busy bool
	at   *stack
}

func newRoots(driver func(ctx context.Context) (sandbox.Driver, error)) *roots {
	return &roots{choose: driver, driver: newFuture[sandbox.Driver]()}
}

// take returns a root that holds exactly the layers of base, for one process.
func (r *roots) take(ctx context.Context, base state) (*openRoot, error) {
	if o := base.root; o != nil {
		if missing, ok := o.claim(base.layers); ok {
			return o, o.add(ctx, missing)
		}
	}
	r.once.Do(func() { r.driver.set(r.choose(ctx)) })
	driver, err := r.driver.wait(ctx)
	if err != nil {
		return nil, err
	}
	layers, err := base.layers.wait(ctx)
	if err != nil {
		return nil, err
	}
	root, err := driver.Open(ctx, layers)
	if err != nil {
		return nil, fmt.Errorf("open root filesystem: %w", err)
	}
	o := &openRoot{root: root, busy: true, at: base.layers}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(r.open, o)
	return o, nil
}

// inUse returns the driver, or nil as long as no process had to run.
func (r *roots) inUse() sandbox.Driver {
	select {
	case <-r.driver.done:
		return r.driver.value
	default:
		return nil
	}
}

// claim takes the root for a process that runs on layers, if it is free and holds a part of them, and returns
// what is missing on top.
func (o *openRoot) claim(layers *stack) ([]*pending, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy {
		return nil, false
	}
	missing, ok := layers.above(o.at)
	o.busy = ok
	return missing, ok
}

// add puts layers that were made elsewhere on top of the root.
func (o *openRoot) add(ctx context.Context, layers []*pending) error {
	for _, p := range layers {
		l, err := p.wait(ctx)
		if err != nil {
			return err
		}
		if err := o.root.Add(ctx, l.Layer); err != nil {
			return fmt.Errorf("add layer to root filesystem: %w", err)
		}
	}
	return nil
}

// release makes the root, which now holds layers, free for the next process.
func (r *roots) release(o *openRoot, layers *stack) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy, o.at = false, layers
}

func (r *roots) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for _, o := range r.open {
		err = errors.Join(err, o.root.Close())
	}
	r.open = nil
	return err
}
