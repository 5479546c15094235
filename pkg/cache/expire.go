package cache

import (
	"context"
	"fmt"
	"time"
)

// ExpiredError says that there was an entry, and how old it was. It wraps [ErrMiss].
type ExpiredError struct {
	Age, TTL time.Duration
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the cache entry is %v old, which is more than %v", e.Age.Round(time.Second), e.TTL)
}

func (e *ExpiredError) Unwrap() error { return ErrMiss }

// Expire returns a store in which entries are missing once ttl has passed since they were created, so that
// what a step fetches from elsewhere is fetched anew from time to time. A later Put replaces them.
//
// As with Kaniko's --cache-ttl a ttl of 0 leaves no entry: results are kept, and none is used. For entries that
// never expire, leave out Expire. [WithTTL] has another ttl for single steps.
func Expire(s Store, ttl time.Duration) Store {
	return &expiring{Store: s, ttl: ttl, now: time.Now}
}

type expiring struct {
	Store
	ttl time.Duration
	now func() time.Time
}

type ttlKey struct{}

// WithTTL returns a context in which [Expire] uses ttl instead of its own.
func WithTTL(ctx context.Context, ttl time.Duration) context.Context {
	return context.WithValue(ctx, ttlKey{}, ttl)
}

func (x *expiring) Get(ctx context.Context, k Key) (Entry, error) {
	e, err := x.Store.Get(ctx, k)
	if err != nil {
		return e, err
	}
	ttl := x.ttl
	if own, ok := ctx.Value(ttlKey{}).(time.Duration); ok {
		ttl = own
	}
	if age := x.now().Sub(e.Created); age >= ttl || ttl <= 0 {
		return Entry{}, &ExpiredError{Age: age, TTL: ttl}
	}
	return e, nil
}
