package cache

import (
	"context"
	"errors"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Lost remembers layers that turned out to be lost (see [LostError]), so that entries that have them are missing from
// then on. An entry usually stands under two keys.
type Lost struct {
	Store
	mu     sync.Mutex
	keys   map[Key]bool
	layers map[v1.Hash]bool
}

// NewLost returns a store before s that has lost nothing yet.
func NewLost(s Store) *Lost {
	return &Lost{Store: s, keys: map[Key]bool{}, layers: map[v1.Hash]bool{}}
}

// Lose makes an entry missing, and others with the same layer. It returns false if it was missing already.
func (l *Lost) Lose(ctx context.Context, k Key) bool {
	digest, _ := l.layerOf(ctx, k)
	l.mu.Lock()
	defer l.mu.Unlock()
	again := l.keys[k]
	l.keys[k] = true
	if digest != (v1.Hash{}) {
		l.layers[digest] = true
	}
	return !again
}

// layerOf is the digest of an entry's layer; zero when there is none.
func (l *Lost) layerOf(ctx context.Context, k Key) (v1.Hash, error) {
	e, err := l.Store.Get(ctx, k)
	if err != nil || e.Layer == nil {
		return v1.Hash{}, err
	}
	return e.Layer.Digest()
}

// Get implements [Store].
func (l *Lost) Get(ctx context.Context, k Key) (Entry, error) {
	e, err := l.Store.Get(ctx, k)
	if err != nil {
		return e, err
	}
	var digest v1.Hash
	if e.Layer != nil {
		if digest, err = e.Layer.Digest(); err != nil {
			return e, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys[k] || l.layers[digest] {
		return Entry{}, Miss(errors.New("its layer is lost"))
	}
	return e, nil
}

// Put implements [Store]. A layer that was made anew is there again.
func (l *Lost) Put(ctx context.Context, k Key, e Entry) error {
	if e.Layer != nil {
		digest, err := e.Layer.Digest()
		if err != nil {
			return err
		}
		l.mu.Lock()
		delete(l.layers, digest)
		delete(l.keys, k)
		l.mu.Unlock()
	}
	return l.Store.Put(ctx, k, e)
}
