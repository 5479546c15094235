package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// maxFailures is how many calls in a row may fail before a backend is given up.
const maxFailures = 3

// Breaker gives up a backend that is in lasting trouble, so that it is asked once or a few times and not for every key: with
// the first error that wraps [ErrUnusable], or the third of any kind in a row. That error is returned, and no other
// afterwards: what is looked up is missing then, for the reason that [Breaker.Reason] keeps, and what is put is dropped.
// Reading and writing are given up apart, since credentials may be good for one of them. While the last call of either has
// failed the backend is called with [Hurried].
//
// Until the first look-up has been answered the others wait for it.
type Breaker struct {
	next        Store
	read, write circuit
}

// NewBreaker returns a breaker before s.
func NewBreaker(s Store) *Breaker {
	return &Breaker{next: s, read: circuit{turn: make(chan struct{}, 1)}}
}

// Get implements [Store].
func (b *Breaker) Get(ctx context.Context, k Key) (e Entry, err error) {
	tripped, err := b.Reading(ctx, func(ctx context.Context) error {
		e, err = b.next.Get(ctx, k)
		return err
	})
	if tripped != nil {
		return Entry{}, Miss(fmt.Errorf("given up: %w", tripped))
	}
	return e, err
}

// Put implements [Store].
func (b *Breaker) Put(ctx context.Context, k Key, e Entry) error {
	_, err := b.Writing(ctx, func(ctx context.Context) error { return b.next.Put(ctx, k, e) })
	return err
}

// Reading calls op, which reads something else from the backend, unless reading was given up, for which tripped is the reason.
// Its error counts like that of a look-up; one that wraps [ErrMiss] is none.
func (b *Breaker) Reading(ctx context.Context, op func(context.Context) error) (tripped, err error) {
	return b.read.do(ctx, func() error { return op(b.patience(ctx)) })
}

// Writing is Reading for what writes.
func (b *Breaker) Writing(ctx context.Context, op func(context.Context) error) (tripped, err error) {
	return b.write.do(ctx, func() error { return op(b.patience(ctx)) })
}

func (b *Breaker) patience(ctx context.Context) context.Context {
	if b.read.fails() || b.write.fails() {
		return Hurried(ctx)
	}
	return ctx
}

// Reason returns why the backend is no longer read and why it is no longer written, nil where it is.
func (b *Breaker) Reason() (read, write error) { return b.read.reason(), b.write.reason() }

// circuit counts the failures of one kind of call.
type circuit struct {
	turn chan struct{} // held by the call that finds out whether the backend answers; nil: none has to

	mu       sync.Mutex
	proven   bool
	failures int
	open     error
}

func (c *circuit) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

func (c *circuit) fails() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failures > 0
}

// do calls op unless the circuit is open, for which tripped is the reason then.
func (c *circuit) do(ctx context.Context, op func() error) (tripped, err error) {
	if c.turn != nil && !c.isProven() {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if c.isProven() {
			<-c.turn
		} else {
			defer func() { <-c.turn }()
		}
	}
	if tripped = c.reason(); tripped != nil {
		return tripped, nil
	}
	err = op()
	if err != nil && context.Cause(ctx) != nil {
		return nil, err
	}
	return c.count(err)
}

func (c *circuit) isProven() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proven || c.open != nil
}

func (c *circuit) count(err error) (tripped, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil || errors.Is(err, ErrMiss) {
		c.proven, c.failures = true, 0
		return nil, err
	}
	if c.open != nil {
		return c.open, nil // somebody else has told
	}
	if c.failures++; c.failures >= maxFailures || errors.Is(err, ErrUnusable) {
		c.open = err
	}
	return nil, err
}

// Reported returns a store that gives the errors of s to report, which has to be safe for concurrent use, instead of returning
// them: what cannot be looked up is missing. So of several stores each has a word of its own, also when another had
// the entry.
func Reported(s Store, report func(error)) Store { return &reported{s, report} }

type reported struct {
	next   Store
	report func(error)
}

func (r *reported) Get(ctx context.Context, k Key) (Entry, error) {
	e, err := r.next.Get(ctx, k)
	if err == nil || errors.Is(err, ErrMiss) || context.Cause(ctx) != nil {
		return e, err
	}
	r.report(err)
	return Entry{}, Miss(err)
}

func (r *reported) Put(ctx context.Context, k Key, e Entry) error {
	err := r.next.Put(ctx, k, e)
	if err == nil || context.Cause(ctx) != nil {
		return err
	}
	r.report(err)
	return nil
}
