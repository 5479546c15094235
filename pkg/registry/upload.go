package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// maxUploads is how many blobs are uploaded to one registry at a time. One connection rarely fills a line to a
// registry far away, and BuildKit's four leave room there; more than eight share what there is.
const maxUploads = 8

// maxMounts is how many repositories are tried as the source of a mount.
const maxMounts = 2

// ledger knows what this client has put where, so that a blob goes to a registry once.
type ledger struct {
	mu    sync.Mutex
	blobs map[string]*upload       // by registry and digest
	slots map[string]chan struct{} // by registry
}

// upload is what is known of one blob at one registry.
type upload struct {
	turn  chan struct{} // held by whoever works on the blob
	repos []string      // that have it; owned by whoever has the turn
}

func (l *ledger) of(registry string, h v1.Hash) *upload {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blobs == nil {
		l.blobs = map[string]*upload{}
	}
	key := registry + " " + h.String()
	u := l.blobs[key]
	if u == nil {
		u = &upload{turn: make(chan struct{}, 1)}
		l.blobs[key] = u
	}
	return u
}

func (l *ledger) slot(registry string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slots == nil {
		l.slots = map[string]chan struct{}{}
	}
	s := l.slots[registry]
	if s == nil {
		s = make(chan struct{}, maxUploads)
		l.slots[registry] = s
	}
	return s
}

// enter takes a place in ch, or returns the cause of ctx's end.
func enter(ctx context.Context, ch chan struct{}) error {
	select {
	case ch <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (u *upload) has(repo string) bool {
	for _, r := range u.repos {
		if r == repo {
			return true
		}
	}
	return false
}

func (u *upload) forget(repo string) {
	kept := u.repos[:0]
	for _, r := range u.repos {
		if r != repo {
			kept = append(kept, r)
		}
	}
	u.repos = kept
}

// UploadLayer puts the layer's blob into repo, a repository such as "registry/name". When it returns nil the
// registry has the blob.
//
// The same blob is moved once for each registry, whoever asks for it how often and at the same time:
// where it is in another repository already (because the layer came from there, or was uploaded there), it is mounted. A
// mount that is refused becomes an upload. The layer must know its digest and size, and be readable more than
// once: a transfer that breaks goes on, or starts again. Layers that may not be distributed are left where they are.
//
// Errors are of type [*Error]; one that the layer's own reader made is below it.
func (c *Client) UploadLayer(ctx context.Context, repo string, layer v1.Layer) error {
	r, err := name.NewRepository(repo, name.WeakValidation)
	if err != nil {
		return fmt.Errorf("parse repository %q: %w", repo, err)
	}
	return c.uploadLayer(ctx, r, layer)
}

func (c *Client) uploadLayer(ctx context.Context, repo name.Repository, layer v1.Layer) error {
	mt, err := layer.MediaType()
	if err != nil {
		return fmt.Errorf("upload layer: %w", err)
	}
	if !mt.IsDistributable() {
		return nil
	}
	desc := v1.Descriptor{MediaType: mt}
	if desc.Digest, err = layer.Digest(); err != nil {
		return fmt.Errorf("upload layer: %w", err)
	}
	if desc.Size, err = layer.Size(); err != nil {
		return fmt.Errorf("upload layer %s: %w", desc.Digest, err)
	}

	u := c.uploads.of(repo.RegistryStr(), desc.Digest)
	if err := enter(ctx, u.turn); err != nil {
		return err
	}
	defer func() { <-u.turn }()
	if u.has(repo.RepositoryStr()) {
		return nil
	}
	slot := c.uploads.slot(repo.RegistryStr())
	if err := enter(ctx, slot); err != nil {
		return err
	}
	defer func() { <-slot }()

	t := &transfer{client: c, repo: repo, layer: layer, desc: desc, from: mountSources(repo, layer, u.repos)}
	if err := t.run(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return c.fail("upload layer", desc.Digest.String()+" to "+repo.Name(), repo, t.who(), err)
	}
	u.repos = append(u.repos, repo.RepositoryStr())
	return nil
}

// mountSources lists the repositories of repo's registry that have the layer: where it came from, and those that have
// been given it.
func mountSources(repo name.Repository, layer v1.Layer, have []string) []string {
	var from []string
	if m, ok := layer.(*remote.MountableLayer); ok {
		src := m.Reference.Context()
		if src.RegistryStr() == repo.RegistryStr() && src.RepositoryStr() != repo.RepositoryStr() {
			from = append(from, src.RepositoryStr())
		}
	}
	for _, r := range have {
		if len(from) < maxMounts && (len(from) == 0 || from[0] != r) {
			from = append(from, r)
		}
	}
	return from
}

// transfer brings one blob into one repository.
type transfer struct {
	client *Client
	repo   name.Repository
	layer  v1.Layer
	desc   v1.Descriptor
	from   []string

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
	for _, from := range t.from {
		if t.mount(ctx, from) {
			return nil
		}
	}
	retries := t.client.backoff()
	for {
		err := t.once(ctx)
		if err == nil || ctx.Err() != nil || !t.mayRetry(err) {
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
	has, err := t.s.hasBlob(ctx, t.desc.Digest)
	switch {
	// Some registries refuse to say whether a blob is there and still take it.
	case err != nil && Status(err) != http.StatusForbidden:
		return err
	case has:
		t.abandon(ctx)
		return nil
	}
	off := t.resume(ctx)
	if t.location == nil {
		if err := t.begin(ctx); err != nil {
			return err
		}
	}
	return t.send(ctx, off)
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
	return resp.Request.URL.ResolveReference(u), nil
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
	req, err := http.NewRequestWithContext(withoutRetry(ctx), http.MethodPut, u.String(), nil)
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

// sourceError says that the layer could not be read, which sending it again does not mend.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "read layer: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// source is a layer on its way out, from an offset on. It keeps the errors of the layer apart from those
// of the connection.
type source struct {
	t    *transfer
	from int64

	mu  sync.Mutex
	err error
}

func (s *source) open() *outgoing { return &outgoing{source: s, off: s.from, told: s.from} }

func (s *source) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// outgoing is one request's reader of a source. It opens the layer when it is read, since that may take a
// request of its own.
type outgoing struct {
	source    *source
	off, told int64

	mu   sync.Mutex // net/http closes a body at any time
	rc   io.ReadCloser
	shut bool
}

// Read implements io.Reader. After Close an error is that of the connection, which gave up the body.
func (o *outgoing) Read(p []byte) (int, error) {
	rc, err := o.reader()
	n := 0
	if err == nil {
		n, err = rc.Read(p)
	}
	o.off += int64(n)
	t := o.source.t
	if o.off-o.told >= progressStep {
		o.told = o.off
		t.client.moved(t.s, t.desc, o.off, Push)
	}
	if err == io.EOF && o.off < t.desc.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		o.failed(err)
	}
	return n, err
}

func (o *outgoing) reader() (io.ReadCloser, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.shut {
		return nil, errReaderClosed
	}
	if o.rc != nil {
		return o.rc, nil
	}
	rc, err := o.source.t.layer.Compressed()
	if err != nil {
		return nil, err
	}
	o.rc = rc
	_, err = io.CopyN(io.Discard, rc, o.source.from)
	return rc, err
}

func (o *outgoing) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.shut {
		return
	}
	o.source.mu.Lock()
	o.source.err = err
	o.source.mu.Unlock()
}

// Close implements io.Closer.
func (o *outgoing) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shut = true
	if o.rc == nil {
		return nil
	}
	return o.rc.Close()
}
