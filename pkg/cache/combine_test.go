package cache_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
)

// memory is a store that can be put into trouble.
type memory struct {
	mu       sync.Mutex
	entries  map[cache.Key]cache.Entry
	trouble  error
	gets     int
	puts     int
	answered chan struct{} // nil: at once
}

func newMemory() *memory { return &memory{entries: map[cache.Key]cache.Entry{}} }

func (m *memory) Get(ctx context.Context, k cache.Key) (cache.Entry, error) {
	if m.answered != nil {
		select {
		case <-m.answered:
		case <-ctx.Done():
			return cache.Entry{}, context.Cause(ctx)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	if m.trouble != nil {
		return cache.Entry{}, m.trouble
	}
	e, ok := m.entries[k]
	if !ok {
		return cache.Entry{}, cache.ErrMiss
	}
	return e, nil
}

func (m *memory) Put(_ context.Context, k cache.Key, e cache.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts++
	if m.trouble != nil {
		return m.trouble
	}
	m.entries[k] = e
	return nil
}

func (m *memory) with(name, step string) *memory {
	m.entries[cachetest.Key(name)] = cache.Entry{Step: step, Created: time.Now()}
	return m
}

func troubled(err error) *memory {
	m := newMemory()
	m.trouble = err
	return m
}

func stepOf(t *testing.T, s cache.Store, name string) string {
	t.Helper()
	e, err := s.Get(t.Context(), cachetest.Key(name))
	if err != nil {
		t.Fatal(err)
	}
	return e.Step
}

func TestDecoratorsAreStores(t *testing.T) {
	for name, wrap := range map[string]func(cache.Store) cache.Store{
		"expire":   func(s cache.Store) cache.Store { return cache.Expire(s, 1<<62) },
		"breaker":  func(s cache.Store) cache.Store { return cache.NewBreaker(s) },
		"reported": func(s cache.Store) cache.Store { return cache.Reported(s, func(err error) { t.Error(err) }) },
		"several":  func(s cache.Store) cache.Store { return cache.Several([]cache.Store{newMemory(), s}, []cache.Store{s}) },
		"tiered":   func(s cache.Store) cache.Store { return cache.Tiered(newMemory(), s) },
		"layers":   func(s cache.Store) cache.Store { return cache.Layers(s, func(l v1.Layer) v1.Layer { return l }) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			cachetest.Run(t, func(*testing.T) cache.Store { return wrap(m) })
		})
	}
}

func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory().with("k", "RUN x")
		s := cache.Expire(m, time.Hour)
		time.Sleep(time.Hour - 1)
		if got := stepOf(t, s, "k"); got != "RUN x" {
			t.Errorf("got %q", got)
		}
		time.Sleep(time.Nanosecond)
		var expired *cache.ExpiredError
		_, err := s.Get(t.Context(), cachetest.Key("k"))
		if !errors.Is(err, cache.ErrMiss) || !errors.As(err, &expired) || expired.Age != time.Hour || expired.TTL != time.Hour {
			t.Errorf("after an hour: %v", err)
		}
		if _, err := s.Get(cache.WithTTL(t.Context(), 2*time.Hour), cachetest.Key("k")); err != nil {
			t.Errorf("a step with a longer ttl: %v", err)
		}
		if _, err := s.Get(cache.WithTTL(t.Context(), 0), cachetest.Key("k")); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("a step with ttl 0: %v", err)
		}
	})
}

func TestExpireAtOnce(t *testing.T) {
	m := newMemory()
	m.entries[cachetest.Key("k")] = cache.Entry{Created: time.Now().Add(time.Hour)} // by a clock that is ahead
	if _, err := cache.Expire(m, 0).Get(t.Context(), cachetest.Key("k")); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("ttl 0: %v, want ErrMiss", err)
	}
}

func TestSeveralFirstInOrderWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, fast := newMemory().with("k", "slow"), newMemory().with("k", "fast")
		slow.answered = make(chan struct{})
		time.AfterFunc(time.Second, func() { close(slow.answered) })
		s := cache.Several([]cache.Store{newMemory(), slow, fast}, nil)
		if got := stepOf(t, s, "k"); got != "slow" {
			t.Errorf("got the entry of %s, want that of the first store that has one", got)
		}
	})
}

func TestSeveralDoesNotWaitForTheRest(t *testing.T) {
	never := newMemory()
	never.answered = make(chan struct{})
	s := cache.Several([]cache.Store{newMemory().with("k", "first"), never}, nil)
	if got := stepOf(t, s, "k"); got != "first" {
		t.Errorf("got %q", got)
	}
}

func TestSeveralTellsOfEachTrouble(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	good := newMemory()
	s := cache.Several([]cache.Store{troubled(one), good, troubled(two)}, []cache.Store{troubled(one), good, troubled(two)})
	_, err := s.Get(t.Context(), cachetest.Key("k"))
	if !errors.Is(err, one) || !errors.Is(err, two) || errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Put(t.Context(), cachetest.Key("k"), cache.Entry{Step: "kept"}); !errors.Is(err, one) || !errors.Is(err, two) {
		t.Errorf("Put: %v", err)
	}
	if got := stepOf(t, s, "k"); got != "kept" {
		t.Errorf("got %q, want what the healthy store has", got)
	}
}

// unread is a layer that must not be read.
type unread struct {
	v1.Layer
	t *testing.T
}

func (u unread) Compressed() (io.ReadCloser, error) {
	u.t.Error("bytes of a distant layer were fetched")
	return u.Layer.Compressed()
}

// reading is a store that fetches what it is given, as the local one does.
type reading struct{ *memory }

func (r reading) Put(ctx context.Context, k cache.Key, e cache.Entry) error {
	if e.Layer != nil {
		rc, err := e.Layer.Compressed()
		if err != nil {
			return err
		}
		rc.Close()
	}
	return r.memory.Put(ctx, k, e)
}

func TestTieredFetchesNothing(t *testing.T) {
	near, far := newMemory(), newMemory()
	far.entries[cachetest.Key("content")] = cache.Entry{Layer: unread{cachetest.Layer("x"), t}, Created: time.Now()}
	s := cache.Tiered(reading{near}, far)
	e, err := s.Get(t.Context(), cachetest.Key("content"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), cachetest.Key("definition"), e); err != nil {
		t.Fatal(err)
	}
	if near.puts != 0 || far.puts != 1 {
		t.Errorf("put %d times near and %d times far", near.puts, far.puts)
	}
	fresh := cache.Entry{Layer: cachetest.Layer("made here")}
	if err := s.Put(t.Context(), cachetest.Key("fresh"), fresh); err != nil || near.puts != 1 || far.puts != 2 {
		t.Errorf("Put of a new layer: %v, %d times near and %d times far", err, near.puts, far.puts)
	}
}

func TestTieredNearTroubleIsNoReasonNotToAskFar(t *testing.T) {
	s := cache.Tiered(troubled(errors.New("disk")), newMemory().with("k", "far"))
	if got := stepOf(t, s, "k"); got != "far" {
		t.Errorf("got %q", got)
	}
	if _, err := s.Get(t.Context(), cachetest.Key("none")); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("Get of nothing: %v, want the trouble", err)
	}
}

func TestLaterPutsWhileTheCallerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		slow := putting(func(context.Context) error {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second)
			running.Add(-1)
			return errors.New("refused")
		})
		var told atomic.Int32
		s := cache.NewLater(t.Context(), slow, 3, func(error) { told.Add(1) })
		before := time.Now()
		for range 10 {
			if err := s.Put(t.Context(), cachetest.Key("k"), cache.Entry{}); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(before) != 0 {
			t.Error("Put waited")
		}
		s.Wait()
		if told.Load() != 10 || most.Load() != 3 {
			t.Errorf("%d errors were told, %d puts ran at once", told.Load(), most.Load())
		}
	})
}

func TestLaterEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	hang := putting(func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	s := cache.NewLater(ctx, hang, 1, func(err error) { t.Errorf("told of the end: %v", err) })
	for range 3 {
		_ = s.Put(t.Context(), cachetest.Key("k"), cache.Entry{})
	}
	cancel(errors.New("interrupt"))
	s.Wait()
}

// putting is a store that only puts.
type putting func(context.Context) error

func (putting) Get(context.Context, cache.Key) (cache.Entry, error) {
	return cache.Entry{}, cache.ErrMiss
}
func (p putting) Put(ctx context.Context, _ cache.Key, _ cache.Entry) error { return p(ctx) }
