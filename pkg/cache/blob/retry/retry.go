// Package retry makes requests again that failed in a way that passes, for buckets whose client library does not.
package retry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

const (
	attempts   = 5
	firstDelay = 500 * time.Millisecond
	maxDelay   = 20 * time.Second
)

// Do calls try up to five times, as long as again says that its error may pass. Between two calls it waits for half a
// second, for twice as long each time, or for as long as again asks, up to 20 s. When ctx is done the error is its
// cause. Where ctx is that of cache.Hurried one call has to do.
func Do(ctx context.Context, try func() error, again func(error) (after time.Duration, ok bool)) error {
	delay := firstDelay
	for left := attempts - 1; ; left-- {
		err := try()
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		var source *SourceError
		after, ok := again(err)
		if left == 0 || !ok || cache.InHurry(ctx) || errors.As(err, &source) {
			return err
		}
		// A quarter of jitter keeps the requests that failed together from coming back together.
		if err := sleep(ctx, max(delay+rand.N(delay/4), min(after, maxDelay))); err != nil {
			return err
		}
		delay = min(2*delay, maxDelay)
	}
}

// Passing reports whether the same request may well succeed in a moment, by the status of its answer.
func Passing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

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

// SourceError says that what was to be sent could not be read, which another attempt does not mend.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// Source is a body on its way out. It keeps its own errors apart from those of the connection.
type Source struct {
	io.ReadCloser
	mu  sync.Mutex
	err error
}

// Read implements io.Reader.
func (s *Source) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}
	return n, err
}

// Blame returns err, or a *SourceError when reading was what failed. A nil err stays nil.
func (s *Source) Blame(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.err != nil {
		return &SourceError{s.err}
	}
	return err
}
