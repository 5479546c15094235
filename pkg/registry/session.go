package registry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// session is a conversation with one repository: the scheme is known and requests carry
// credentials, which are renewed when they run out.
type session struct {
	repo name.Repository // insecure when it may speak plain HTTP
	http *http.Client
	rt   http.RoundTripper
	who  identity
}

// identity is with what rights a session speaks; errors tell it.
type identity struct {
	anonymous bool
	asked     string // where credentials were looked for
	problem   error  // why they could not be had
}

// session returns the conversation with repo, opening it when it is the first of its kind. from names a
// repository of the same registry whose blobs are to be mounted, which takes a right of its own.
func (c *Client) session(ctx context.Context, repo name.Repository, d Direction, from string) (*session, error) {
	key := sessionKey(repo, d, from)
	c.mu.Lock()
	s := c.sessions[key]
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	// Whoever comes first opens it for all, so its being cancelled must not fail the others.
	done := c.flights.DoChan(key, func() (any, error) {
		s, err := c.open(c.life, repo, d, from)
		if err == nil {
			c.mu.Lock()
			c.sessions[key] = s
			c.mu.Unlock()
		}
		return s, err
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*session), nil
	}
}

func sessionKey(repo name.Repository, d Direction, from string) string {
	return strings.Join([]string{string(d), repo.Name(), from}, " ")
}

func (c *Client) open(ctx context.Context, repo name.Repository, d Direction, from string) (*session, error) {
	repo, err := c.rules.repository(repo, d)
	if err != nil {
		return nil, err
	}
	auth, who := c.identify(ctx, repo)
	scopes := []string{repo.Scope(transport.PullScope)}
	if d == Push {
		scopes = []string{repo.Scope(transport.PushScope)}
	}
	if from != "" {
		scopes = append(scopes, repo.Registry.Repo(from).Scope(transport.PullScope))
	}
	rt, err := transport.NewWithContext(ctx, repo.Registry, auth, c.base(repo.Registry, d), scopes)
	if err != nil {
		return nil, &sessionError{who: who, err: err}
	}
	return &session{repo: repo, rt: rt, who: who, http: &http.Client{Transport: rt, CheckRedirect: checkRedirect}}, nil
}

// maxRedirects is that of net/http, which a CheckRedirect of one's own replaces.
const maxRedirects = 10

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	return mayLead(via[0].URL, req.URL)
}

// mayLead refuses to be led by a registry to an address that means the machine that asks: its own services, or
// the metadata service of its cloud. Storage in a private network is where many registries rightly lead.
func mayLead(from, to *url.URL) error {
	if from.Hostname() == to.Hostname() {
		return nil
	}
	ip := net.ParseIP(to.Hostname())
	if ip == nil || !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !ip.IsUnspecified() {
		return nil
	}
	if f := net.ParseIP(from.Hostname()); f != nil && f.IsLoopback() || from.Hostname() == "localhost" {
		return nil
	}
	return fmt.Errorf("%s leads to %s, an address of this machine", from.Host, to.Host)
}

// sessionError keeps who asked until the error is explained.
type sessionError struct {
	who identity
	err error
}

func (e *sessionError) Error() string { return e.err.Error() }
func (e *sessionError) Unwrap() error { return e.err }

// identify finds the credentials for repo. A helper that does not work must not stand in the way of
// a public image: the problem is told when the registry wants credentials.
func (c *Client) identify(ctx context.Context, repo name.Repository) (authn.Authenticator, identity) {
	who := identity{}
	if s, ok := c.o.Keychain.(fmt.Stringer); ok {
		who.asked = s.String()
	}
	auth, err := authn.Resolve(ctx, c.o.Keychain, repo)
	if err != nil {
		who.problem = err
		auth = authn.Anonymous
	}
	who.anonymous = auth == authn.Anonymous
	return auth, who
}

// Identify looks for the credentials for the repository of ref, so that a keychain may read its files and remember what is in
// them. It tells nobody if there are none: the registry may not want any. The registry itself is not asked for anything.
func (c *Client) Identify(ctx context.Context, ref string) error {
	r, err := ParseReference(ref)
	if err != nil {
		return err
	}
	c.identify(ctx, r.Context())
	return nil
}

// base is what requests to registry go through below authentication.
func (c *Client) base(reg name.Registry, d Direction) http.RoundTripper {
	skipVerify := c.rules.skipVerify(reg.RegistryStr(), d)
	conns := c.pool.transport(reg.RegistryStr(), skipVerify)
	// Both directions share the answer unless they may speak in other ways.
	key := fmt.Sprint(reg.RegistryStr(), reg.Scheme(), skipVerify)
	c.mu.Lock()
	memo := c.pings[key]
	if memo == nil {
		memo = &pings{}
		c.pings[key] = memo
	}
	c.mu.Unlock()
	var rt http.RoundTripper = &impatient{next: conns, after: c.o.StallTimeout}
	rt = &persistent{next: rt, client: c}
	rt = &pingOnce{next: rt, memo: memo}
	return transport.NewUserAgent(rt, c.o.UserAgent)
}

// puller and pusher are go-containerregistry's, on this session's connection.
func (s *session) puller() (*remote.Puller, error) { return remote.NewPuller(s.options()...) }
func (s *session) pusher() (*remote.Pusher, error) { return remote.NewPusher(s.options()...) }

func (s *session) options() []remote.Option {
	return []remote.Option{
		remote.WithTransport(s.rt),
		// Retries have been made below.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}
}

// pings remembers a registry's answers to GET /v2/, which go-containerregistry asks for at
// the start of each session though the answer is that of the registry.
type pings struct {
	mu   sync.Mutex
	made map[string]*ping // by scheme and host
}

// ping is one question, which sessions that begin at the same time ask once.
type ping struct {
	mu     sync.Mutex     // held while it is asked
	answer *http.Response // without body; nil: none that counts
}

func (p *pings) to(key string) *ping {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = map[string]*ping{}
	}
	if p.made[key] == nil {
		p.made[key] = &ping{}
	}
	return p.made[key]
}

type pingOnce struct {
	next http.RoundTripper
	memo *pings
}

// RoundTrip implements http.RoundTripper.
func (t *pingOnce) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.URL.Path != "/v2/" || req.Header.Get("Authorization") != "" {
		return t.next.RoundTrip(req)
	}
	if req.URL.Scheme == "https" && t.memo.to("http://"+req.URL.Host).known() {
		return nil, http.ErrSchemeMismatch
	}
	p := t.memo.to(req.URL.Scheme + "://" + req.URL.Host)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answer != nil {
		return replay(p.answer, req), nil
	}
	resp, err := t.next.RoundTrip(req)
	if err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized) {
		p.answer = replay(resp, nil)
	}
	return resp, err
}

// known says whether there is an answer, without waiting for one.
func (p *ping) known() bool {
	if !p.mu.TryLock() {
		return false
	}
	defer p.mu.Unlock()
	return p.answer != nil
}

func replay(r *http.Response, req *http.Request) *http.Response {
	return &http.Response{
		Status: r.Status, StatusCode: r.StatusCode, Header: r.Header.Clone(),
		Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		Body: io.NopCloser(strings.NewReader("")), Request: req,
	}
}
