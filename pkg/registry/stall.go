package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// stallError is a net.Error: the registry took too long.
type stallError struct{ after time.Duration }

func (e *stallError) Error() string   { return fmt.Sprintf("no answer and no byte for %v", e.after) }
func (e *stallError) Timeout() bool   { return true }
func (e *stallError) Temporary() bool { return true }

// impatient gives up a request when nothing moves. It waits only for the network: neither a layer
// that is slow to read nor a reader that is slow to take counts.
type impatient struct {
	next  http.RoundTripper
	after time.Duration
}

// RoundTrip implements http.RoundTripper.
func (t *impatient) RoundTrip(in *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(in.Context())
	stalled := &stallError{after: t.after}
	w := &watch{timer: time.AfterFunc(time.Hour, func() { cancel(stalled) }), after: t.after}
	w.timer.Stop()
	end := func() {
		w.timer.Stop()
		cancel(nil)
	}

	req := in.WithContext(ctx)
	answer := t.after
	if in.Method != http.MethodGet && in.Method != http.MethodHead {
		answer *= commitFactor
	}
	if in.Body != nil && in.Body != http.NoBody {
		req.Body = &sentBody{ReadCloser: in.Body, watch: w, answer: answer}
		if in.GetBody != nil {
			req.GetBody = func() (io.ReadCloser, error) {
				b, err := in.GetBody()
				return &sentBody{ReadCloser: b, watch: w, answer: answer}, err
			}
		}
	}
	// Until the first read of a body, the connection is being made.
	w.timer.Reset(answer)
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		defer end()
		if errors.Is(context.Cause(ctx), stalled) {
			return nil, stalled
		}
		return nil, err
	}
	w.timer.Stop()
	resp.Body = &receivedBody{ReadCloser: resp.Body, watch: w, ctx: ctx, stalled: stalled, end: end}
	return resp, nil
}

// watch cancels a request unless it is stopped in time.
type watch struct {
	timer *time.Timer
	after time.Duration
}

// sentBody runs the watch between reads, which is while bytes are on their way out.
type sentBody struct {
	io.ReadCloser
	watch  *watch
	answer time.Duration
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.watch.timer.Stop()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.watch.timer.Reset(b.answer)
	} else {
		b.watch.timer.Reset(b.watch.after)
	}
	return n, err
}

// receivedBody runs the watch during reads.
type receivedBody struct {
	io.ReadCloser
	watch   *watch
	ctx     context.Context //nolint:containedctx // to know its cause
	stalled *stallError
	end     func()
}

func (b *receivedBody) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.watch.after)
	n, err := b.ReadCloser.Read(p)
	b.watch.timer.Stop()
	if err != nil && errors.Is(context.Cause(b.ctx), b.stalled) {
		err = b.stalled
	}
	return n, err
}

func (b *receivedBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
