package cache

import (
	"context"
	"errors"
)

// Only returns a store that puts those entries into s that keep accepts, and finds whatever s has.
func Only(s Store, keep func(Entry) bool) Store { return &only{Store: s, keep: keep} }

type only struct {
	Store
	keep func(Entry) bool
}

func (o *only) Put(ctx context.Context, k Key, e Entry) error {
	if !o.keep(e) {
		return nil
	}
	return o.Store.Put(ctx, k, e)
}

// Shared returns a store that finds what s has, and puts what is found into to as well: what was kept here before
// others could be given it reaches them in the end. Since a Get waits for the Put, to had better be a [Later].
func Shared(s, to Store) Store { return &shared{Store: s, to: to} }

type shared struct {
	Store
	to Store
}

func (s *shared) Get(ctx context.Context, k Key) (Entry, error) {
	e, err := s.Store.Get(ctx, k)
	if err == nil {
		err = s.to.Put(ctx, k, e)
	}
	return e, err
}

// IfMissing returns a store that puts only what s does not have, which it asks for first.
func IfMissing(s Store) Store { return ifMissing{s} }

type ifMissing struct{ Store }

func (m ifMissing) Put(ctx context.Context, k Key, e Entry) error {
	if _, err := m.Get(ctx, k); !errors.Is(err, ErrMiss) {
		return nil // it is there, or there is trouble that others tell of
	}
	return m.Store.Put(ctx, k, e)
}
