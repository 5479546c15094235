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

	mu     sync.Mutex
	opened []sandbox.Root
	forAll map[*stack]*future[sandbox.Root]
}

// openRoot is a root with what it holds.
type openRoot struct {
	root sandbox.Root

	mu   sync.Mutex
	busy bool
	at   *stack
}

func newRoots(driver func(ctx context.Context) (sandbox.Driver, error)) *roots {
	return &roots{choose: driver, driver: newFuture[sandbox.Driver](), forAll: map[*stack]*future[sandbox.Root]{}}
}

// take returns a root that holds exactly the layers of base, for one process.
func (r *roots) take(ctx context.Context, base state) (*openRoot, error) {
	if o := base.root; o != nil {
		if missing, ok := o.claim(base.layers); ok {
			return o, o.add(ctx, missing)
		}
	}
	root, err := r.keep(ctx, base.layers)
	if err != nil {
		return nil, err
	}
	return &openRoot{root: root, busy: true, at: base.layers}, nil
}

// shared returns a root that holds exactly these layers, for mounts that nobody writes to. It is the same one for all of
// them.
func (r *roots) shared(ctx context.Context, layers *stack) (sandbox.Root, error) {
	r.mu.Lock()
	f := r.forAll[layers]
	mine := f == nil
	if mine {
		f = newFuture[sandbox.Root]()
		r.forAll[layers] = f
	}
	r.mu.Unlock()
	if mine {
		f.set(r.keep(ctx, layers))
	}
	return f.wait(ctx)
}

// keep opens a root on layers that stays open until all are closed.
func (r *roots) keep(ctx context.Context, layers *stack) (sandbox.Root, error) {
	root, err := r.open(ctx, layers)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = append(r.opened, root)
	return root, nil
}

// cachePrepared says that a cache needs no seed any more.
func (r *roots) cachePrepared(ctx context.Context, dir string) (bool, error) {
	driver, err := r.get(ctx)
	if err != nil {
		return false, err
	}
	if keeper, ok := driver.(sandbox.CacheKeeper); ok {
		return keeper.CachePrepared(dir)
	}
	return false, nil
}

// get chooses the driver when it is first asked for.
func (r *roots) get(ctx context.Context) (sandbox.Driver, error) {
	r.once.Do(func() { r.driver.set(r.choose(ctx)) })
	return r.driver.wait(ctx)
}

// open opens a root on layers, waiting for those in the making. The caller closes it.
func (r *roots) open(ctx context.Context, layers *stack) (sandbox.Root, error) {
	driver, err := r.get(ctx)
	if err != nil {
		return nil, err
	}
	list, err := layers.wait(ctx)
	if err != nil {
		return nil, err
	}
	root, err := driver.Open(ctx, list)
	if err != nil {
		return nil, fmt.Errorf("open root filesystem: %w", err)
	}
	return root, nil
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
	for _, root := range r.opened {
		err = errors.Join(err, root.Close())
	}
	r.opened = nil
	return err
}
