package source

import (
	"context"
	"sync"
)

// once does something the first time that it is asked for, for everybody who asks. Whoever waits for another's
// attempt stops when its own context is done. An attempt that ended because of its context decides nothing.
type once[T any] struct {
	do func(context.Context) (T, error)

	mu      sync.Mutex
	running chan struct{} // closed when the attempt that runs now has ended; nil when none does
	done    bool
	value   T
	err     error
}

func (o *once[T]) get(ctx context.Context) (T, error) {
	for {
		o.mu.Lock()
		if o.done {
			defer o.mu.Unlock()
			return o.value, o.err
		}
		wait := o.running
		if wait == nil {
			o.running = make(chan struct{})
			o.mu.Unlock()
			return o.run(ctx)
		}
		o.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
	}
}

func (o *once[T]) run(ctx context.Context) (T, error) {
	value, err := o.do(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.running)
	o.running = nil
	if err != nil && context.Cause(ctx) != nil {
		return value, context.Cause(ctx)
	}
	o.value, o.err, o.done = value, err, true
	return value, err
}

// peek returns what was found out, if anything was.
func (o *once[T]) peek() (value T, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.value, o.done && o.err == nil
}
