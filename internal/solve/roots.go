package solve

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// roots opens root filesystems and hands them from process to process.
//
// A root follows a chain of steps: the next process on the layers that a root holds runs in it, even while
// the last layer is still being written. A second process on the same layers, in another stage, gets a root
// of its own.
type roots struct {
	choose func(ctx context.Context) (sandbox.Driver, error)
	likely func() sandbox.Driver
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

func newRoots(driver func(ctx context.Context) (sandbox.Driver, error), likely func() sandbox.Driver) *roots {
	if likely == nil {
		likely = func() sandbox.Driver { return nil }
	}
	return &roots{choose: driver, likely: likely, driver: newFuture[sandbox.Driver](), forAll: map[*stack]*future[sandbox.Root]{}}
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
	var early *attempt
	if !r.driver.known() {
		if d := r.likely(); d != nil {
			early = attemptOpen(ctx, d, layers)
		}
	}
	driver, err := r.get(ctx)
	if early != nil && (err != nil || driver != early.driver) {
		err = errors.Join(err, early.abandon())
		early = nil
	}
	if err != nil {
		return nil, err
	}
	if early == nil {
		early = attemptOpen(ctx, driver, layers)
	}
	return early.wait()
}

// attempt is a root that is being opened.
type attempt struct {
	driver sandbox.Driver
	cancel context.CancelCauseFunc
	done   chan struct{}
	root   sandbox.Root // when done is closed
	err    error
}

// errOtherDriver is why an attempt ends.
var errOtherDriver = errors.New("another driver was chosen")

// attemptOpen begins to open a root on layers, for which it waits. It must be waited for or abandoned.
func attemptOpen(ctx context.Context, d sandbox.Driver, layers *stack) *attempt {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attempt{driver: d, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		var list []v1.Layer
		if list, a.err = layers.wait(ctx); a.err != nil {
			return
		}
		if a.root, a.err = d.Open(ctx, list); a.err != nil {
			a.root, a.err = nil, fmt.Errorf("open root filesystem: %w", a.err)
		}
	}()
	return a
}

// wait returns the root.
func (a *attempt) wait() (sandbox.Root, error) {
	<-a.done
	a.cancel(nil)
	return a.root, a.err
}

// abandon ends the attempt, and closes the root if there is one.
func (a *attempt) abandon() error {
	a.cancel(errOtherDriver)
	<-a.done
	if a.root == nil {
		return nil
	}
	return a.root.Close()
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
