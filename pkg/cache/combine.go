package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Layers returns a store whose layers are passed through f when they are found, as through a store of
// blobs that were read before.
func Layers(s Store, f func(v1.Layer) v1.Layer) Store { return &mapped{Store: s, layer: f} }

type mapped struct {
	Store
	layer func(v1.Layer) v1.Layer
}

func (m *mapped) Get(ctx context.Context, k Key) (Entry, error) {
	e, err := m.Store.Get(ctx, k)
	if err == nil && e.Layer != nil {
		e.Layer = m.layer(e.Layer)
	}
	return e, err
}

// Several returns a store that looks in all of from at once, where the first in order that has an entry wins, and puts
// into all of to. When nothing is found the error tells of all that went wrong, and wraps [ErrMiss] if nothing did; that
// of a Put wraps one error for each store that did not take the entry.
func Several(from, to []Store) Store { return &several{from: from, to: to} }

type several struct{ from, to []Store }

func (s *several) Get(ctx context.Context, k Key) (Entry, error) {
	// Whoever comes later in order need not answer once the winner is known.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		entry Entry
		err   error
	}
	answers := make([]chan answer, len(s.from))
	for i, store := range s.from {
		answers[i] = make(chan answer, 1)
		go func() {
			e, err := store.Get(ctx, k)
			answers[i] <- answer{e, err}
		}()
	}
	var trouble, misses []error
	for _, ch := range answers {
		a := <-ch
		switch {
		case a.err == nil:
			return a.entry, nil
		case errors.Is(a.err, ErrMiss):
			misses = append(misses, a.err)
		default:
			trouble = append(trouble, a.err)
		}
	}
	switch {
	case len(trouble) > 0:
		return Entry{}, all(trouble)
	case len(misses) > 0:
		return Entry{}, all(misses)
	}
	return Entry{}, ErrMiss
}

// all is errors.Join on one line.
func all(errs []error) error {
	var joined error
	for _, err := range errs {
		switch {
		case err == nil:
		case joined == nil:
			joined = err
		default:
			joined = fmt.Errorf("%w; %w", joined, err)
		}
	}
	return joined
}

func (s *several) Put(ctx context.Context, k Key, e Entry) error {
	errs := make([]error, len(s.to))
	var wg sync.WaitGroup
	for i, store := range s.to {
		wg.Go(func() { errs[i] = store.Put(ctx, k, e) })
	}
	wg.Wait()
	return all(errs)
}

// Tiered returns a store that looks in near first and in far when near has nothing, and puts into both.
//
// What was found in far is not put into near, neither at once nor when the caller puts it under another key: near
// would have to fetch the layer's bytes, which perhaps nobody needs.
func Tiered(near, far Store) Store { return &tiered{near: near, far: far, distant: map[v1.Hash]bool{}} }

type tiered struct {
	near, far Store

	mu      sync.Mutex
	distant map[v1.Hash]bool // digests of layers that were found in far
}

func (t *tiered) Get(ctx context.Context, k Key) (Entry, error) {
	e, err := t.near.Get(ctx, k)
	if err == nil {
		return e, nil
	}
	e, farErr := t.far.Get(ctx, k)
	if farErr == nil {
		return e, t.note(e.Layer)
	}
	if errors.Is(err, ErrMiss) {
		return Entry{}, farErr
	}
	if errors.Is(farErr, ErrMiss) {
		return Entry{}, err
	}
	return Entry{}, all([]error{err, farErr})
}

func (t *tiered) note(l v1.Layer) error {
	if l == nil {
		return nil
	}
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.distant[digest] = true
	return nil
}

func (t *tiered) Put(ctx context.Context, k Key, e Entry) error {
	if e.Layer != nil {
		digest, err := e.Layer.Digest()
		if err != nil {
			return err
		}
		t.mu.Lock()
		distant := t.distant[digest]
		t.mu.Unlock()
		if distant {
			return t.far.Put(ctx, k, e)
		}
	}
	return all([]error{t.near.Put(ctx, k, e), t.far.Put(ctx, k, e)})
}
