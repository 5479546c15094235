// Package registry is one pooled, authenticated, retrying client for container registries,
// shared by everything that talks to them: the pull of bases, the cache, and the push.
//
// What the client adds to go-containerregistry, on whose authentication, names and image
// model it stands: one pool of connections for all repositories and directions; retries that honour Retry-After;
// requests that give up when nothing moves; downloads that resume where the connection broke; uploads that happen
// once per registry and are mounted everywhere else; mirrors; and errors that say what to do.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/singleflight"
)

// Direction says which way bytes go.
type Direction string

const (
	// Pull is from a registry.
	Pull Direction = "pull"
	// Push is to a registry.
	Push Direction = "push"
)

// ErrClosed is why a layer cannot be read any more after [Client.Close].
var ErrClosed = errors.New("registry client closed")

// Options say how registries are reached. The zero value reaches those that need neither
// credentials nor exceptions.
//
// A registry is named as in a reference, "host" or "host:port"; docker.io and index.docker.io are one.
type Options struct {
	// Keychain finds credentials; nil means none. See [DockerConfig].
	Keychain authn.Keychain

	// Insecure lets every registry that is pushed to, and InsecurePull every one that is pulled from, speak
	// plain HTTP when it does not speak HTTPS. InsecureRegistries does both for those it names. Loopback and
	// RFC 1918 addresses may always speak plain HTTP, as go-containerregistry has it.
	Insecure           bool
	InsecurePull       bool
	InsecureRegistries []string

	// SkipTLSVerify, SkipTLSVerifyPull and SkipTLSVerifyRegistries accept any certificate, for pushes, for
	// pulls, and for the registries that are named.
	SkipTLSVerify           bool
	SkipTLSVerifyPull       bool
	SkipTLSVerifyRegistries []string

	// Certificates maps a registry to a file of PEM certificates that are trusted for it
	// besides those of the system.
	Certificates map[string]string
	// ClientCerts maps a registry to the certificate that is shown to it.
	ClientCerts map[string]ClientCert

	// Mirrors are tried in order before docker.io, and the mirrors in Map, by registry, before the registry that they
	// mirror. A mirror is "host[:port][/prefix]"; the repository's name is put after the prefix. "http://" in
	// front of it lets it speak plain HTTP.
	Mirrors []string
	Map     map[string][]string
	// SkipDefaultFallback ends with the mirrors, where there are any.
	SkipDefaultFallback bool

	// UserAgent names the program, as "name/version"; "gobuild" when empty.
	UserAgent string
	// Proxy chooses the proxy of a request; nil means none. Programs usually pass http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// HTTP1 keeps to HTTP/1.1 where a registry is slow over HTTP/2.
	HTTP1 bool

	// Retries is how often a request or the transfer of a blob is tried again; 0 means 5, less than 0 never.
	Retries int
	// RetryDelay is how long the first retry waits when the registry does not say; later ones wait twice as long
	// each, up to 20 s. 0 means 500 ms.
	RetryDelay time.Duration
	// StallTimeout is how long a registry may go without sending or taking a byte before the request is
	// given up and, when that can be done, tried again; 0 means 60 s. Registries that have all of an upload may
	// take five times as long to answer, since they hash and move it then.
	StallTimeout time.Duration

	// Progress, when not nil, is told of transfers as they move. It is called from many goroutines, must not
	// block, and is not called for blobs that were mounted or were there already.
	Progress func(Transfer)
	// Warn, when not nil, is told one sentence about what went wrong without being an error, such as a
	// mirror that did not answer. It is called from many goroutines.
	Warn func(string)
}

// ClientCert names the PEM files of a client certificate.
type ClientCert struct {
	Cert, Key string
}

// Transfer is the state of the transfer of one blob.
type Transfer struct {
	Digest v1.Hash
	// Complete and Total count the blob's bytes. Complete can fall when an upload starts again.
	Complete, Total int64
	Direction       Direction
	// Registry is the one at the other end.
	Registry string
}

const (
	defaultRetries      = 5
	defaultRetryDelay   = 500 * time.Millisecond
	maxRetryDelay       = 20 * time.Second
	defaultStallTimeout = 60 * time.Second
	// commitFactor: a registry on object storage copies an upload to its place before it answers, which
	// has been seen to take minutes for layers of several gigabytes.
	commitFactor = 5
)

// Client talks to registries. It is safe for concurrent use. Close it when the images that it
// returned are no longer read.
type Client struct {
	o     Options
	rules rules
	pool  *pool

	life context.Context //nolint:containedctx // ends with Close; what lazy layers are read under
	end  context.CancelCauseFunc

	flights  singleflight.Group
	mu       sync.Mutex
	sessions map[string]*session
	pings    map[string]*pings
	foreseen map[string]*foresight // by reference: see Foresee
	uploads  ledger
}

// New checks the options, reads the certificate files, and returns a client. It does not touch the network.
func New(o Options) (*Client, error) {
	if o.UserAgent == "" {
		o.UserAgent = "gobuild"
	}
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain()
	}
	if o.Retries == 0 {
		o.Retries = defaultRetries
	}
	o.Retries = max(o.Retries, 0)
	if o.RetryDelay == 0 {
		o.RetryDelay = defaultRetryDelay
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = defaultStallTimeout
	}
	r, err := newRules(o)
	if err != nil {
		return nil, err
	}
	p, err := newPool(o)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancelCause(context.Background())
	return &Client{
		o: o, rules: r, pool: p, life: life, end: end,
		sessions: map[string]*session{},
		pings:    map[string]*pings{},
		foreseen: map[string]*foresight{},
	}, nil
}

// Close ends all transfers, with [ErrClosed], and closes idle connections. Images that the client returned
// can no longer be read. It may be called at any time and more than once.
//
// Reading a layer has no context of its own, so a program that wants its cancellation to end reads that are under
// way arranges for Close: context.AfterFunc(ctx, client.Close).
func (c *Client) Close() {
	c.end(ErrClosed)
	c.pool.closeIdle()
}

func (c *Client) warn(format string, args ...any) {
	if c.o.Warn != nil {
		c.o.Warn(fmt.Sprintf(format, args...))
	}
}
