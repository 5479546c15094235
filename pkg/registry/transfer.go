package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// transfer brings one blob into one repository.
type transfer struct {
	client *Client
	repo   name.Repository
	layer  v1.Layer
	desc   v1.Descriptor
	from   []string
	slots  slots

	s        *session
	location *url.URL // of an upload that was begun; nil: none
}

func (t *transfer) who() identity {
	if t.s == nil {
		return identity{}
	}
	return t.s.who
}

// run mounts the blob or else sends it, as often as it takes.
func (t *transfer) run(ctx context.Context) error {
	var err error
	if t.s, err = t.client.session(ctx, t.repo, Push, ""); err != nil {
		return err
	}
	if done, err := t.mountAny(ctx); done || err != nil {
		return err
	}
	retries := t.client.backoff()
	for {
		err := t.once(ctx)
		if err == nil || ctx.Err() != nil || withoutRetry(ctx) || !t.mayRetry(err) {
			return err
		}
		wait, again := retries.next(0)
		if !again {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// once looks for the blob and sends it when it is not there.
func (t *transfer) once(ctx context.Context) error {
	has, err := t.has(ctx)
	switch {
	// Some registries refuse to say whether a blob is there and still take it.
	case err != nil && Status(err) != http.StatusForbidden:
		return err
	case has:
		t.abandon(ctx)
		return nil
	}
	if err := enter(ctx, t.slots.uploads); err != nil {
		return err
	}
	defer func() { <-t.slots.uploads }()
	off := t.resume(ctx)
	if t.location == nil {
		if err := t.begin(ctx); err != nil {
			return err
		}
	}
	return t.send(ctx, off)
}

func (t *transfer) has(ctx context.Context) (bool, error) {
	if err := enter(ctx, t.slots.questions); err != nil {
		return false, err
	}
	defer func() { <-t.slots.questions }()
	return t.s.hasBlob(ctx, t.desc.Digest)
}

// mayRetry tells errors of the connection and of the registry's moment from those that stay.
func (t *transfer) mayRetry(err error) bool {
	var source *sourceError
	if errors.As(err, &source) {
		return false
	}
	var refused *transport.Error
	if !errors.As(err, &refused) {
		return true
	}
	if passingStatus(refused.StatusCode) {
		return true
	}
	// The session was lost, perhaps by a request of ours that arrived though its answer did not.
	lost := refused.StatusCode == http.StatusNotFound || refused.StatusCode == http.StatusRequestedRangeNotSatisfiable
	if lost && t.location != nil {
		t.location = nil
		return true
	}
	return false
}

// mountAny mounts the blob from one of the repositories that may have it, if that can be done.
func (t *transfer) mountAny(ctx context.Context) (bool, error) {
	if len(t.from) == 0 {
		return false, nil
	}
	if err := enter(ctx, t.slots.questions); err != nil {
		return false, err
	}
	defer func() { <-t.slots.questions }()
	for _, from := range t.from {
		if t.mount(ctx, from) {
			return true, nil
		}
	}
	return false, nil
}

// mount asks the registry to take the blob over from another of its repositories. A registry that
// does not begins an upload instead, which is kept.
func (t *transfer) mount(ctx context.Context, from string) bool {
	s, err := t.client.session(ctx, t.repo, Push, from)
	if err != nil {
		return false
	}
	loc, done, err := s.post(ctx, url.Values{"mount": {t.desc.Digest.String()}, "from": {from}})
	if err != nil {
		return false
	}
	if !done {
		t.abandon(ctx)
		t.location = loc
	}
	return done
}

func (t *transfer) begin(ctx context.Context) error {
	loc, _, err := t.s.post(ctx, nil)
	t.location = loc
	return err
}

// post begins an upload (distribution-spec, "Pushing blobs") or mounts, when done is true.
func (s *session) post(ctx context.Context, query url.Values) (loc *url.URL, done bool, err error) {
	u := s.url("blobs/uploads/")
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return nil, false, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusCreated, http.StatusAccepted); err != nil {
		return nil, false, err
	}
	if resp.StatusCode == http.StatusCreated {
		return nil, true, nil
	}
	loc, err = location(resp)
	return loc, false, err
}

// location is where an upload goes on. It may be relative.
func location(resp *http.Response) (*url.URL, error) {
	h := resp.Header.Get("Location")
	if h == "" {
		return nil, errors.New("the registry began an upload without saying where")
	}
	u, err := url.Parse(h)
	if err != nil {
		return nil, fmt.Errorf("parse location of upload: %w", err)
	}
	to := resp.Request.URL.ResolveReference(u)
	return to, mayLead(resp.Request.URL, to)
}

// resume asks how much of an upload that broke has arrived. When the registry cannot tell, or has nothing, the
// upload is forgotten and 0 returned.
func (t *transfer) resume(ctx context.Context) int64 {
	if t.location == nil {
		return 0
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.location.String(), nil)
	if err != nil {
		return 0
	}
	resp, err := t.s.http.Do(req)
	if err != nil {
		t.location = nil
		return 0
	}
	defer resp.Body.Close()
	var last int64
	_, scan := fmt.Sscanf(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "0-%d", &last)
	loc, err := location(resp)
	if resp.StatusCode != http.StatusNoContent || err != nil || scan != nil || last >= t.desc.Size {
		t.location = nil
		return 0
	}
	t.location = loc
	if last == 0 {
		// "0-0" is one byte by the book, and none at all where the reference implementation says it.
		return 0
	}
	return last + 1
}

// send closes the upload with one request that carries the blob from off on.
func (t *transfer) send(ctx context.Context, off int64) error {
	u := *t.location
	q := u.Query()
	q.Set("digest", t.desc.Digest.String())
	u.RawQuery = q.Encode()
	// Sent again blindly it would meet an upload that has some of it: run does that, with a look first.
	req, err := http.NewRequestWithContext(WithoutRetry(ctx), http.MethodPut, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if off > 0 {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", off, t.desc.Size-1))
	}
	src := &source{t: t, from: off}
	if req.ContentLength = t.desc.Size - off; req.ContentLength > 0 {
		req.Body = src.open()
		// For a token that runs out just now.
		req.GetBody = func() (io.ReadCloser, error) { return src.open(), nil }
	}
	resp, err := t.s.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
	}
	if failed := src.failure(); failed != nil {
		return &sourceError{failed}
	}
	if err != nil {
		return err
	}
	if err := transport.CheckError(resp, http.StatusCreated, http.StatusNoContent); err != nil {
		return t.refused(err)
	}
	t.client.moved(t.s, t.desc, t.desc.Size, Push)
	return nil
}

// refused gives up the upload when the registry does not take its contents.
func (t *transfer) refused(err error) error {
	if !passingStatus(Status(err)) && Status(err) != http.StatusNotFound {
		t.location = nil
	}
	return err
}

// abandon ends an upload that is not needed. Registries end them by themselves, too, so errors do not matter.
func (t *transfer) abandon(ctx context.Context) {
	if t.location == nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, t.location.String(), nil)
	t.location = nil
	if err != nil {
		return
	}
	if resp, err := t.s.http.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}
