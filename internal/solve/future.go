package solve

import (
	"context"
	"sync"
)

// future is a value that is made once and waited for by many.
type future[T any] struct {
	once  sync.Once
	done  chan struct{}
	value T
	err   error
}

func newFuture[T any]() *future[T] { return &future[T]{done: make(chan struct{})} }

// set gives the future its value. Only the first call counts.
func (f *future[T]) set(v T, err error) {
	f.once.Do(func() {
		f.value, f.err = v, err
		close(f.done)
	})
}

// known says whether there is a value.
func (f *future[T]) known() bool {
	select {
	case <-f.done:
		return f.err == nil
	default:
		return false
	}
}

// wait returns the value, or the cause of ctx's end if that comes first.
func (f *future[T]) wait(ctx context.Context) (T, error) {
	select {
	case <-f.done:
		return f.value, f.err
	default:
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var zero T
		return zero, context.Cause(ctx)
	}
}
