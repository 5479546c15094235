package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// errStalled is why a transfer ends in which nothing moves any more.
var errStalled = errors.New("no answer and no byte")

// maxRedirects is how many redirects are followed: as many as browsers do.
const maxRedirects = 20

// newClient returns a client that gives credentials to the host that they are for and to no other.
func (f Fetch) newClient() *http.Client {
	t := &http.Transport{
		Proxy:                 f.Proxy,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   f.Stall,
		ExpectContinueTimeout: time.Second,
	}
	return &http.Client{Transport: t, CheckRedirect: checkRedirect}
}

// checkRedirect takes the credentials from a request that leads elsewhere than the first one. net/http lets
// subdomains, other ports, and plain HTTP have them.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	if first := via[0].URL; req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
		req.Header.Del("Authorization")
	}
	return nil
}

// send sends a request whose answer, and whose body, may not stall. The caller closes the body.
func (f Fetch) send(ctx context.Context, c *http.Client, req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watch := time.AfterFunc(f.Stall, func() { cancel(fmt.Errorf("%w for %v", errStalled, f.Stall)) })
	resp, err := c.Do(req.WithContext(ctx)) //nolint:bodyclose // the caller closes what stands for it
	watch.Stop()
	if err != nil {
		defer cancel(nil)
		return nil, plainError(ctx, err)
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, watch: watch, after: f.Stall}
	return resp, nil
}

// plainError is err without the URL, which may hold credentials, or the reason why the request was given up.
func plainError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// watchedBody gives up when a read takes too long. It does not mind a reader that is slow.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // to know its cause
	cancel context.CancelCauseFunc
	watch  *time.Timer
	after  time.Duration
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.Reset(b.after)
	n, err := b.ReadCloser.Read(p)
	b.watch.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = plainError(b.ctx, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// shown is a URL as messages name it: without what may be a credential, which is the user and the query.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(a malformed URL)" // wherever its credentials are
	}
	if u.User != nil {
		u.User = url.User("xxxxx")
	}
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	u.Fragment = ""
	return u.String()
}
