package cache

import (
	"context"
	"sync"
)

// Later puts entries while the caller goes on: its Put returns at once. Until the entry has arrived a Get may miss.
type Later struct {
	Store
	report func(error)
	slots  chan struct{}
	wg     sync.WaitGroup
	life   context.Context //nolint:containedctx // what is under way outlives the call that began it
	end    context.CancelCauseFunc
}

// NewLater returns a store before s that puts at most limit entries at a time. report, which has to be safe for
// concurrent use, is told of what went wrong. The caller calls Wait. Puts under way end with ctx.
func NewLater(ctx context.Context, s Store, limit int, report func(error)) *Later {
	l := &Later{Store: s, report: report, slots: make(chan struct{}, limit)}
	l.life, l.end = context.WithCancelCause(ctx)
	return l
}

// Put implements [Store]. It must not be called after Wait. The layer has to stay readable until then.
func (l *Later) Put(_ context.Context, k Key, e Entry) error {
	l.wg.Go(func() {
		select {
		case l.slots <- struct{}{}:
		case <-l.life.Done():
			return
		}
		defer func() { <-l.slots }()
		if err := l.Store.Put(l.life, k, e); err != nil && context.Cause(l.life) == nil {
			l.report(err)
		}
	})
	return nil
}

// Wait returns when everything has been put.
func (l *Later) Wait() {
	l.wg.Wait()
	l.end(nil)
}
