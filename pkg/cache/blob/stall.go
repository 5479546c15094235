package blob

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// stallTimeout is how long a bucket may go without giving or taking a byte before a transfer is given up. Until an
// upload is confirmed it may take five times as long, as a server may have to put together what it has got.
const (
	stallTimeout  = time.Minute
	confirmFactor = 5
)

// watch ends a transfer when nothing moves.
type watch struct {
	ctx   context.Context //nolint:containedctx // the transfer's own
	end   context.CancelCauseFunc
	after time.Duration
	timer *time.Timer
}

// newWatch returns the context of the transfer, too.
func newWatch(ctx context.Context, after time.Duration) (context.Context, *watch) {
	w := &watch{after: after}
	w.ctx, w.end = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(after, func() {
		w.end(fmt.Errorf("%w: no byte has moved for %v", cache.ErrUnusable, after))
	})
	return w.ctx, w
}

func (w *watch) stop() {
	w.timer.Stop()
	w.end(nil)
}

// incoming reads what a bucket gives: the watch runs while it is waited for.
type incoming struct {
	io.ReadCloser
	watch *watch
}

func (r *incoming) Read(p []byte) (int, error) {
	r.watch.timer.Reset(r.watch.after)
	n, err := r.ReadCloser.Read(p)
	r.watch.timer.Stop()
	if err != nil && err != io.EOF { //nolint:errorlint // readers return io.EOF itself
		err = because(r.watch.ctx, err)
	}
	return n, err
}

func (r *incoming) Close() error {
	defer r.watch.stop()
	return r.ReadCloser.Close()
}

// outgoing is read by a bucket: the watch runs between reads, which is while bytes are on their way.
type outgoing struct {
	io.ReadCloser
	watch *watch
}

func (r *outgoing) Read(p []byte) (int, error) {
	r.watch.timer.Stop()
	n, err := r.ReadCloser.Read(p)
	after := r.watch.after
	if err != nil {
		after *= confirmFactor
	}
	r.watch.timer.Reset(after)
	return n, err
}

// get opens an object whose reader gives up when the bucket hangs.
func (s *Store) get(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
	ctx, w := newWatch(ctx, s.stall)
	rc, err := s.bucket.Get(ctx, name, off)
	if err != nil {
		defer w.stop()
		return nil, because(ctx, err)
	}
	w.timer.Stop()
	return &incoming{ReadCloser: rc, watch: w}, nil
}

// send puts an object, and gives up when the bucket hangs.
func (s *Store) send(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error {
	ctx, w := newWatch(ctx, s.stall)
	defer w.stop()
	err := s.bucket.Put(ctx, name, size, func() (io.ReadCloser, error) {
		rc, err := open()
		if err != nil {
			return nil, err
		}
		return &outgoing{ReadCloser: rc, watch: w}, nil
	})
	if err != nil {
		return because(ctx, err)
	}
	return nil
}
