package registry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// maxRetryAfter is the longest wait that a registry may ask for. Docker Hub's rate limit asks
// for hours, which is an error to report and not a time to wait.
const maxRetryAfter = 2 * time.Minute

// backoff counts the retries of one thing.
type backoff struct {
	left  int
	delay time.Duration
}

func (c *Client) backoff() backoff { return backoff{left: c.o.Retries, delay: c.o.RetryDelay} }

// next reports whether there is a retry left and how long to wait before it: asked, when the registry asked
// for a time, but never less than the back-off.
func (b *backoff) next(asked time.Duration) (time.Duration, bool) {
	if b.left <= 0 || asked > maxRetryAfter {
		return 0, false
	}
	b.left--
	// A quarter of jitter keeps the requests that failed together from coming back together.
	wait := b.delay + time.Duration(rand.Int64N(int64(b.delay)/4+1))
	b.delay = min(2*b.delay, maxRetryDelay)
	return max(wait, asked), true
}

// sleep waits for d or for the end of ctx, whose cause it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// persistent sends a request again when it failed in a way that passes. Requests with a body that
// cannot be had a second time are left to the caller.
type persistent struct {
	next   http.RoundTripper
	client *Client
}

// RoundTrip implements http.RoundTripper.
func (t *persistent) RoundTrip(req *http.Request) (*http.Response, error) {
	b := t.client.backoff()
	// go-containerregistry sends a request whose token had run out again with the body that is used up,
	// so even the first attempt takes a body of its own.
	try, err := rewound(req)
	if err != nil {
		return nil, err
	}
	for {
		resp, err := t.next.RoundTrip(try)
		if !passing(resp, err) || !replayable(req) || req.Context().Err() != nil {
			return resp, err
		}
		wait, again := b.next(retryAfter(resp, time.Now()))
		if !again {
			return resp, err
		}
		if resp != nil {
			// Draining a short answer keeps the connection.
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
			_ = resp.Body.Close()
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
		if try, err = rewound(req); err != nil {
			return nil, err
		}
	}
}

// noRetry marks the context of requests that are not to be sent again by [persistent].
type noRetry struct{}

// WithoutRetry returns a context whose requests are made once, whatever [Options.Retries] says.
func WithoutRetry(ctx context.Context) context.Context {
	return context.WithValue(ctx, noRetry{}, true)
}

func withoutRetry(ctx context.Context) bool { return ctx.Value(noRetry{}) != nil }

func replayable(req *http.Request) bool {
	return !withoutRetry(req.Context()) && (req.Body == nil || req.Body == http.NoBody || req.GetBody != nil)
}

// rewound is req with its body at the beginning, when it can be had again.
func rewound(req *http.Request) (*http.Request, error) {
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		_ = req.Body.Close()
		again.Body = body
	}
	return again, nil
}

// passing reports whether the same request may well succeed in a moment.
func passing(resp *http.Response, err error) bool {
	if err != nil {
		return brokenConnection(err)
	}
	return passingStatus(resp.StatusCode)
}

func passingStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		499, 522: // the same, as nginx and Cloudflare say it
		return true
	}
	return false
}

// brokenConnection tells a connection that was lost or is slow from one that cannot be made: a
// wrong name or port would only fail later if it were tried again.
func brokenConnection(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClosed) {
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary || dns.IsTimeout
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// retryAfter reads the header of that name (RFC 9110, 10.2.3): seconds, or a date. Zero: it asks for nothing.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	if resp == nil {
		return 0
	}
	h := resp.Header.Get("Retry-After")
	if s, err := strconv.Atoi(h); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(h); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
