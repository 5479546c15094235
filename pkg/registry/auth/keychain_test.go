package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/gobuild-dev/gobuild/pkg/registry/auth"
)

// clock is a time that tests move.
type clock struct{ now time.Time }

// operator gives out numbered tokens that hold for an hour.
type operator struct {
	name, host string
	clock      *clock
	asked      atomic.Int32
	err        error
	forever    bool
	wait       chan struct{} // Get waits for it, and for nothing else
	during     func()        // called by the first Get, which ends with its context then
}

func (o *operator) Name() string            { return o.name }
func (o *operator) Serves(host string) bool { return host == o.host }

func (o *operator) Get(ctx context.Context, _ string) (authn.AuthConfig, time.Time, error) {
	n := o.asked.Add(1)
	if o.wait != nil {
		<-o.wait
	}
	if o.during != nil && n == 1 {
		o.during()
		<-ctx.Done()
		return authn.AuthConfig{}, time.Time{}, ctx.Err()
	}
	ends := o.clock.now.Add(time.Hour)
	if o.forever {
		ends = time.Time{}
	}
	return authn.AuthConfig{Username: o.name, Password: fmt.Sprint(n)}, ends, o.err
}

func repository(t *testing.T, ref string) name.Repository {
	t.Helper()
	r, err := name.NewRepository(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// password resolves and authorizes.
func password(t *testing.T, k authn.Keychain, ref string) (string, error) {
	t.Helper()
	a, err := k.Resolve(repository(t, ref))
	if err != nil {
		return "", err
	}
	cfg, err := a.Authorization()
	if err != nil {
		return "", err
	}
	return cfg.Username + cfg.Password, nil
}

func want(t *testing.T, k authn.Keychain, ref, user string) {
	t.Helper()
	if got, err := password(t, k, ref); err != nil || got != user {
		t.Errorf("%s: got %q, %v, want %q", ref, got, err, user)
	}
}

func newClock() *clock { return &clock{time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)} }

func TestOnlyWhoServesIsAsked(t *testing.T) {
	c := newClock()
	a, b := &operator{name: "a", host: "a.example", clock: c}, &operator{name: "b", host: "b.example", clock: c}
	k := auth.New(auth.Options{Now: func() time.Time { return c.now }}, a, b)
	want(t, k, "b.example/x", "b1")
	want(t, k, "b.example/another/y", "b1")
	want(t, k, "c.example/x", "")
	if n := a.asked.Load(); n != 0 {
		t.Errorf("a was asked %d times", n)
	}
	if n := b.asked.Load(); n != 1 {
		t.Errorf("b was asked %d times", n)
	}
}

// TestRenewal: a build that lasts longer than a token gets another before it ends, from the authenticator that it had.
func TestRenewal(t *testing.T) {
	c := newClock()
	o := &operator{name: "o", host: "o.example", clock: c}
	k := auth.New(auth.Options{Now: func() time.Time { return c.now }}, o)
	a, err := k.Resolve(repository(t, "o.example/x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{0, "1"}, {54 * time.Minute, "1"}, {2 * time.Minute, "2"}, {time.Minute, "2"}} {
		c.now = c.now.Add(step.after)
		cfg, err := a.Authorization()
		if err != nil || cfg.Password != step.want {
			t.Fatalf("after %s: %+v, %v, want %s", step.after, cfg, err, step.want)
		}
	}
	// The operator is away: what holds is used, and what has ended is not.
	o.err = errors.New("away")
	c.now = c.now.Add(56 * time.Minute)
	if cfg, err := a.Authorization(); err != nil || cfg.Password != "2" {
		t.Errorf("while the old one holds: %+v, %v", cfg, err)
	}
	c.now = c.now.Add(10 * time.Minute)
	if cfg, err := a.Authorization(); err == nil || !strings.Contains(err.Error(), "ask credential helper o for o.example: away") {
		t.Errorf("after the old one's end: %+v, %v", cfg, err)
	}
	o.err = nil
	c.now = c.now.Add(2 * time.Minute)
	if cfg, err := a.Authorization(); err != nil || cfg.Password == "2" {
		t.Errorf("when the operator is back: %+v, %v", cfg, err)
	}
}

func TestCredentialsThatHoldForEverAreAskedForOnce(t *testing.T) {
	c := newClock()
	o := &operator{name: "o", host: "o.example", clock: c, forever: true}
	k := auth.New(auth.Options{Now: func() time.Time { return c.now }}, o)
	want(t, k, "o.example/x", "o1")
	c.now = c.now.Add(100 * time.Hour)
	want(t, k, "o.example/x", "o1")
}

// TestRefusal: one that has nothing is not asked for each repository, makes no error, and lets the next one answer.
func TestRefusal(t *testing.T) {
	c := newClock()
	none := &operator{name: "none", host: "o.example", clock: c, err: fmt.Errorf("job: %w", auth.ErrNone)}
	broken := &operator{name: "broken", host: "o.example", clock: c, err: errors.New("no identity (get one)")}
	k := auth.New(auth.Options{Now: func() time.Time { return c.now }}, none)
	want(t, k, "o.example/x", "")
	want(t, k, "o.example/y", "")
	if n := none.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	k = auth.New(auth.Options{Now: func() time.Time { return c.now }}, broken, none)
	if _, err := password(t, k, "o.example/x"); err == nil || !strings.Contains(err.Error(), "broken for o.example: no identity (get one)") {
		t.Errorf("got %v", err)
	}
	k = auth.New(auth.Options{Now: func() time.Time { return c.now }}, broken, &operator{name: "o", host: "o.example", clock: c})
	want(t, k, "o.example/x", "o1")
}

// TestNobodyHangs: a machine without the server that a source asks goes on without.
func TestNobodyHangs(t *testing.T) {
	o := &operator{name: "o", host: "o.example", clock: newClock(), wait: make(chan struct{})}
	defer close(o.wait)
	k := auth.New(auth.Options{Timeout: time.Millisecond}, o)
	if _, err := password(t, k, "o.example/x"); err == nil || !strings.Contains(err.Error(), "no answer within 1ms") {
		t.Errorf("got %v", err)
	}
}

// TestOneThatIsCancelledSpoilsNothing: the answer to who gave up is not the answer to all.
func TestOneThatIsCancelledSpoilsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := &operator{name: "o", host: "o.example", clock: newClock(), during: cancel}
	k := auth.New(auth.Options{}, o)
	if _, err := k.ResolveContext(ctx, repository(t, "o.example/x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	o.clock.now = time.Now()
	if got, err := password(t, k, "o.example/x"); err != nil || !strings.HasPrefix(got, "o") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAskByName(t *testing.T) {
	o := &operator{name: "o", host: "o.example", clock: newClock(), forever: true}
	k := auth.New(auth.Options{}, o)
	for _, tc := range []struct{ name, host, want string }{
		{"o", "o.example", "1"}, {"o", "other.example", ""}, {"p", "o.example", ""},
	} {
		cfg, err := k.Ask(t.Context(), tc.name, tc.host)
		if err != nil || (cfg == nil) != (tc.want == "") || cfg != nil && cfg.Password != tc.want {
			t.Errorf("%s for %s: %+v, %v", tc.name, tc.host, cfg, err)
		}
	}
}
