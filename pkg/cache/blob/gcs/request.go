package gcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/retry"
)

// maxError bounds what is read of an error's text.
const maxError = 4 << 10

// request can be made more than once.
type request struct {
	method, url string
	size        int64
	open        func() (io.ReadCloser, error) // nil: no body
	off         int64                         // of the first byte that is wanted
}

// statusError is a refusal. It wraps what blob.Bucket tells apart.
type statusError struct {
	status int
	text   string
	after  string // Retry-After
}

func (e *statusError) Error() string {
	said := strings.TrimSpace(fmt.Sprintf("the server answered %d %s", e.status, e.text))
	if wrapped := e.Unwrap(); errors.Is(wrapped, cache.ErrUnusable) {
		return wrapped.Error() + ": " + said
	}
	return said
}

func (e *statusError) Unwrap() error {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return cache.ErrUnusable
	case http.StatusNotFound:
		// A bucket that is not there says the same.
		return fs.ErrNotExist
	}
	return nil
}

// do makes the request, again while that may help. The body of the answer is the caller's to close.
func (b *Bucket) do(ctx context.Context, r request) (resp *http.Response, err error) {
	err = retry.Do(ctx, func() error {
		resp, err = b.once(ctx, r) //nolint:bodyclose // it is the caller's
		return err
	}, again)
	if err != nil {
		return nil, lasting(err)
	}
	return resp, nil
}

func (b *Bucket) once(ctx context.Context, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, nil)
	if err != nil {
		return nil, err
	}
	if r.off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.off))
	}
	var body retry.Source
	if r.open != nil {
		if body.ReadCloser, err = r.open(); err != nil {
			return nil, &retry.SourceError{Err: err}
		}
		req.Body, req.ContentLength = &body, r.size
		if r.size == 0 {
			req.Body = http.NoBody
			defer body.Close()
		}
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := b.o.Client.Do(req)
	if err != nil {
		return nil, body.Blame(err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		return nil, &statusError{status: resp.StatusCode, text: line, after: resp.Header.Get("Retry-After")}
	}
	return resp, nil
}

// again tells what may pass: busy servers and lost connections, but neither other refusals nor hosts that cannot be
// reached at all.
func again(err error) (after time.Duration, ok bool) {
	var refused *statusError
	if errors.As(err, &refused) {
		seconds, err := strconv.Atoi(refused.after)
		if err != nil {
			seconds = 0
		}
		return time.Duration(seconds) * time.Second, retry.Passing(refused.status)
	}
	var token *oauth2.RetrieveError
	return 0, !errors.As(err, &token) && !unreachable(err)
}

func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// lasting marks what holds for every object.
func lasting(err error) error {
	var token *oauth2.RetrieveError
	if unreachable(err) || errors.As(err, &token) {
		return fmt.Errorf("%w: %w", cache.ErrUnusable, err)
	}
	return err
}
