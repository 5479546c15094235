package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

const (
	// defaultTimeout bounds one Get. Where there is a server with metadata it answers within milliseconds, and the service that hands
	// out tokens within a second; where there is none, this is what an anonymous pull has to wait, once.
	defaultTimeout = 10 * time.Second
	// renewBefore is how long before their end credentials are asked for again, so that none ends on the way. Those that hold
	// for less than twice as long are renewed in the middle.
	renewBefore = 5 * time.Minute
	// refusedFor is how long a source that had nothing is not asked again.
	refusedFor = time.Minute
)

// Options are how a keychain asks its sources. The zero value is right for programs.
type Options struct {
	// Timeout bounds one question to a source; 0 means 10 s.
	Timeout time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Keychain is an authn.Keychain over sources: of those that serve a registry, the first that has credentials counts.
// What a source has said is remembered until shortly before it ends, for all repositories of a registry; builds
// that outlast it get new credentials. It is safe for concurrent use.
type Keychain struct {
	sources []Source
	o       Options

	mu    sync.Mutex
	known map[string]*entry // by source and host
}

var _ authn.ContextKeychain = (*Keychain)(nil)

// New returns a keychain over sources, in this order. Nothing is asked.
func New(o Options, sources ...Source) *Keychain {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Keychain{sources: sources, o: o, known: map[string]*entry{}}
}

// String lists the sources, for errors that say where credentials were looked for.
func (k *Keychain) String() string {
	var names []string
	for _, s := range k.sources {
		names = append(names, s.Name())
	}
	return "the credential helpers " + strings.Join(names, ", ")
}

// Resolve implements authn.Keychain.
func (k *Keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target)
}

// ResolveContext implements authn.ContextKeychain. It returns authn.Anonymous when no source serves the registry or none
// that does has anything, and an error when one that serves it could not do what it should.
func (k *Keychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	host := target.RegistryStr()
	var problems []error
	for _, s := range k.sources {
		if !s.Serves(host) {
			continue
		}
		e := k.entry(s, host)
		switch _, err := e.get(ctx); {
		case err == nil:
			return &authenticator{e}, nil
		case !errors.Is(err, ErrNone):
			problems = append(problems, err)
		}
	}
	return authn.Anonymous, errors.Join(problems...)
}

// Ask asks the source of this name, whatever comes first, and returns nil when it does not serve the host or has nothing.
func (k *Keychain) Ask(ctx context.Context, name, host string) (*authn.AuthConfig, error) {
	for _, s := range k.sources {
		if s.Name() != name || !s.Serves(host) {
			continue
		}
		cfg, err := k.entry(s, host).get(ctx)
		if errors.Is(err, ErrNone) {
			return nil, nil
		}
		return cfg, err
	}
	return nil, nil
}

func (k *Keychain) entry(s Source, host string) *entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := s.Name() + " " + host
	if k.known[key] == nil {
		k.known[key] = &entry{source: s, host: host, o: k.o, turn: make(chan struct{}, 1)}
	}
	return k.known[key]
}

// entry is what one source has said of one registry. Only who has the turn may look at the rest.
type entry struct {
	source Source
	host   string
	o      Options
	turn   chan struct{}

	cfg      *authn.AuthConfig
	ends     time.Time // when cfg does; zero for never
	askAgain time.Time // when the source is asked again; zero for never
	err      error
}

// get returns credentials that hold, or why there are none.
func (e *entry) get(ctx context.Context) (*authn.AuthConfig, error) {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	now := e.o.Now()
	if (e.cfg != nil || e.err != nil) && (e.askAgain.IsZero() || now.Before(e.askAgain)) {
		return e.answer(now)
	}
	cfg, ends, err := e.ask(ctx)
	if ctx.Err() != nil { //nolint:forbidigo // only whether
		return nil, context.Cause(ctx) // which says nothing about the source
	}
	if err != nil {
		e.err, e.askAgain = err, now.Add(refusedFor)
		return e.answer(now)
	}
	e.cfg, e.err, e.ends = &cfg, nil, ends
	e.askAgain = time.Time{}
	if !ends.IsZero() {
		e.askAgain = ends.Add(-min(renewBefore, ends.Sub(now)/2))
	}
	return e.answer(now)
}

// answer gives credentials that have not ended, even if the last attempt to renew them has gone wrong.
func (e *entry) answer(now time.Time) (*authn.AuthConfig, error) {
	if e.cfg != nil && (e.ends.IsZero() || now.Before(e.ends)) {
		return e.cfg, nil
	}
	return nil, e.err
}

// ask does not wait for a source that forgets about its context.
func (e *entry) ask(ctx context.Context) (authn.AuthConfig, time.Time, error) {
	limited, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	type said struct {
		cfg  authn.AuthConfig
		ends time.Time
		err  error
	}
	done := make(chan said, 1)
	go func() {
		cfg, ends, err := e.source.Get(limited, e.host)
		done <- said{cfg, ends, err}
	}()
	var s said
	select {
	case s = <-done:
	case <-limited.Done():
		s.err = context.Cause(limited)
	}
	if s.err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) { //nolint:forbidigo // only whether
		s.err = fmt.Errorf("no answer within %s: is there a server with metadata here, and can the cloud be reached? (%w)", e.o.Timeout, s.err)
	}
	if s.err != nil && !errors.Is(s.err, ErrNone) {
		s.err = fmt.Errorf("ask credential helper %s for %s: %w", e.source.Name(), e.host, s.err)
	}
	return s.cfg, s.ends, s.err
}

// authenticator asks again when its credentials have ended.
type authenticator struct{ e *entry }

// Authorization implements authn.Authenticator.
func (a *authenticator) Authorization() (*authn.AuthConfig, error) {
	return a.AuthorizationContext(context.Background())
}

// AuthorizationContext implements authn.ContextAuthenticator.
func (a *authenticator) AuthorizationContext(ctx context.Context) (*authn.AuthConfig, error) {
	return a.e.get(ctx)
}
