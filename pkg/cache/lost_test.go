package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// kept is a store in memory.
type kept struct {
	mu      sync.Mutex
	entries map[cache.Key]cache.Entry
	puts    int
}

func (m *kept) Get(_ context.Context, k cache.Key) (cache.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[k]; ok {
		return e, nil
	}
	return cache.Entry{}, cache.ErrMiss
}

func (m *kept) Put(_ context.Context, k cache.Key, e cache.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = map[cache.Key]cache.Entry{}
	}
	m.entries[k] = e
	m.puts++
	return nil
}

func entryOf(text string) cache.Entry {
	return cache.Entry{Layer: static.NewLayer([]byte(text), types.OCILayer), Created: time.Unix(1, 0)}
}

func put(t *testing.T, s cache.Store, k cache.Key, e cache.Entry) {
	t.Helper()
	if err := s.Put(t.Context(), k, e); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, s cache.Store, k cache.Key) bool {
	t.Helper()
	_, err := s.Get(t.Context(), k)
	if err != nil && !errors.Is(err, cache.ErrMiss) {
		t.Fatal(err)
	}
	return err == nil
}

// TestLostLayersAreMissing holds that what is lost under one key is lost under the other too, until it is made anew.
func TestLostLayersAreMissing(t *testing.T) {
	one, two, other := cache.Key{1}, cache.Key{2}, cache.Key{3}
	m := &kept{}
	l := cache.NewLost(m)
	put(t, m, one, entryOf("layer"))
	put(t, m, two, entryOf("layer"))
	put(t, m, other, entryOf("other"))
	if !l.Lose(t.Context(), one) || l.Lose(t.Context(), one) {
		t.Error("an entry is lost once")
	}
	if has(t, l, one) || has(t, l, two) || !has(t, l, other) {
		t.Errorf("found: %v, %v, %v; want the last alone", has(t, l, one), has(t, l, two), has(t, l, other))
	}
	put(t, l, one, entryOf("layer"))
	if !has(t, l, one) || !has(t, l, two) {
		t.Error("what was made anew is still missing")
	}
}

func TestSharedReachesThoseWhoMissIt(t *testing.T) {
	near, far := &kept{}, &kept{}
	s := cache.Shared(near, cache.IfMissing(far))
	put(t, near, cache.Key{1}, entryOf("layer"))
	for range 2 {
		if !has(t, s, cache.Key{1}) || !has(t, far, cache.Key{1}) {
			t.Error("the entry did not arrive")
		}
	}
	if far.puts != 1 {
		t.Errorf("put %d times, want once", far.puts)
	}
	if has(t, s, cache.Key{2}) || has(t, far, cache.Key{2}) {
		t.Error("found what nobody has")
	}
}

func TestOnly(t *testing.T) {
	m := &kept{}
	s := cache.Only(m, func(e cache.Entry) bool { return e.Kind != cache.KindCopy })
	put(t, s, cache.Key{1}, cache.Entry{Kind: cache.KindCopy})
	put(t, s, cache.Key{2}, cache.Entry{Kind: cache.KindRun})
	if has(t, s, cache.Key{1}) || !has(t, s, cache.Key{2}) {
		t.Error("the wrong entries were kept")
	}
}

// brokenOff ends with an error, and is otherwise a layer.
type brokenOff struct {
	v1.Layer
	err error
}

func (b brokenOff) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(b.err))), nil
}

// TestConnectionThatEndsIsNoEndOfALayer holds that the end of a connection, which other errors wrap, is never taken for that of
// the bytes.
func TestConnectionThatEndsIsNoEndOfALayer(t *testing.T) {
	for name, err := range map[string]error{
		"while-resuming": fmt.Errorf("%w; after 4 bytes: status 416", io.EOF),
		"request":        fmt.Errorf("GET blob: %w", io.EOF),
	} {
		t.Run(name, func(t *testing.T) {
			rc, openErr := cache.Found(brokenOff{entryOf("layer").Layer, err}, cache.Key{1}, nil).Compressed()
			if openErr != nil {
				t.Fatal(openErr)
			}
			_, got := io.ReadAll(rc)
			var lost *cache.LostError
			if !errors.As(got, &lost) || errors.Is(got, io.EOF) || !errors.Is(got, io.ErrUnexpectedEOF) {
				t.Errorf("read: %v, want a LostError that is not the end", got)
			}
		})
	}
}
