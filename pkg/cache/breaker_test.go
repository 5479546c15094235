package cache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
)

// askAll looks up many keys at once and returns the errors that are no misses.
func askAll(t *testing.T, s cache.Store, n int) []error {
	t.Helper()
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := s.Get(t.Context(), cachetest.Key(fmt.Sprint(i))); !errors.Is(err, cache.ErrMiss) {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errs
}

func TestBreakerAsksAnUnusableStoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		b := cache.NewBreaker(getting(func() error {
			asked.Add(1)
			time.Sleep(time.Second) // long enough for all to come
			return fmt.Errorf("%w: credentials were refused", cache.ErrUnusable)
		}))
		if errs := askAll(t, b, 300); len(errs) != 1 || asked.Load() != 1 {
			t.Errorf("asked %d times, %d errors; want one of each", asked.Load(), len(errs))
		}
		_, err := b.Get(t.Context(), cachetest.Key("later"))
		if !errors.Is(err, cache.ErrMiss) || !errors.Is(err, cache.ErrUnusable) {
			t.Errorf("Get afterwards: %v, want a miss that says why", err)
		}
		if read, write := b.Reason(); read == nil || write != nil {
			t.Errorf("reasons: %v and %v", read, write)
		}
	})
}

func TestBreakerGivesUpAfterThreeFailures(t *testing.T) {
	m := troubled(errors.New("status 500"))
	b := cache.NewBreaker(m)
	if errs := askAll(t, b, 300); len(errs) != 3 || m.gets != 3 {
		t.Errorf("asked %d times, %d errors; want three", m.gets, len(errs))
	}
	told := 0
	for range 10 {
		if err := b.Put(t.Context(), cachetest.Key("k"), cache.Entry{}); err != nil {
			told++
		}
	}
	if told != 3 || m.puts != 3 {
		t.Errorf("put %d times, %d errors; want three", m.puts, told)
	}
}

func TestBreakerForgetsFailuresThatPass(t *testing.T) {
	m := newMemory().with("k", "x")
	b := cache.NewBreaker(m)
	for range 10 {
		m.trouble = errors.New("hiccup")
		for range 2 {
			_, _ = b.Get(t.Context(), cachetest.Key("k"))
		}
		m.trouble = nil
		if got := stepOf(t, b, "k"); got != "x" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestBreakerDoesNotCountCancelledCalls(t *testing.T) {
	m := newMemory().with("k", "x")
	m.answered = make(chan struct{})
	b := cache.NewBreaker(m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if _, err := b.Get(ctx, cachetest.Key("k")); !errors.Is(err, context.Canceled) {
			t.Fatalf("Get: %v", err)
		}
	}
	close(m.answered)
	if got := stepOf(t, b, "k"); got != "x" {
		t.Errorf("got %q", got)
	}
}

// TestBreakerLooksUpInParallel holds that only the first look-up is waited for.
func TestBreakerLooksUpInParallel(t *testing.T) {
	const n = 20
	var together sync.WaitGroup
	together.Add(n)
	first := true
	s := cache.NewBreaker(getting(func() error {
		if first {
			first = false // alone, so without a lock
			return cache.ErrMiss
		}
		together.Done()
		together.Wait() // until all are here
		return cache.ErrMiss
	}))
	askAll(t, s, n+1)
}

// getting is a store that only looks up.
type getting func() error

func (g getting) Get(context.Context, cache.Key) (cache.Entry, error) { return cache.Entry{}, g() }
func (getting) Put(context.Context, cache.Key, cache.Entry) error     { return nil }

func TestReportedTellsAndIsSilent(t *testing.T) {
	var told []error
	trouble := errors.New("trouble")
	s := cache.Reported(troubled(trouble), func(err error) { told = append(told, err) })
	if _, err := s.Get(t.Context(), cachetest.Key("k")); !errors.Is(err, cache.ErrMiss) || !errors.Is(err, trouble) {
		t.Errorf("Get: %v, want a miss that says why", err)
	}
	if err := s.Put(t.Context(), cachetest.Key("k"), cache.Entry{}); err != nil {
		t.Errorf("Put: %v", err)
	}
	if len(told) != 2 {
		t.Errorf("told of %v", told)
	}
	if _, err := cache.Reported(newMemory(), func(err error) { t.Error(err) }).Get(t.Context(), cachetest.Key("k")); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get of nothing: %v", err)
	}
}

func TestPruneOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		o            cache.PruneOptions
		items, kept  int
		bytes, after int64
	}{
		"everything":             {cache.PruneOptions{}, 4, 0, 250, 0},
		"by-age":                 {cache.PruneOptions{KeepFor: 36 * time.Hour}, 2, 2, 150, 100},
		"by-size-shared-counted": {cache.PruneOptions{KeepBytes: 150}, 2, 2, 150, 100},
		"all-fit":                {cache.PruneOptions{KeepBytes: 250}, 1, 3, 0, 250},
	} {
		t.Run(name, func(t *testing.T) {
			k := &keeper{}
			shared := record(t, "shared")
			for i, it := range []cache.Item{
				{Name: "0", Size: 100, Layer: shared}, {Name: "1", Size: 100, Layer: shared}, {Name: "2", Size: 150},
			} {
				it.Created = time.Now().Add(-24 * time.Hour * time.Duration(i))
				k.items = append(k.items, it)
			}
			k.items = append(k.items, cache.Item{Name: "broken", Problem: "damaged", Created: time.Now()})
			p, err := cache.Prune(t.Context(), k, tc.o)
			if err != nil || p.Items != tc.items || p.Kept != tc.kept || p.Bytes != tc.bytes || p.BytesKept != tc.after {
				t.Errorf("pruned %+v, %v", p, err)
			}
			if len(k.gone) != tc.items {
				t.Errorf("deleted %d items", len(k.gone))
			}
		})
	}
}

func record(t *testing.T, contents string) *cache.LayerRecord {
	t.Helper()
	r, err := cache.NewRecord(cachetest.Key("k"), cache.Entry{Layer: cachetest.Layer(contents)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Layer
}

type keeper struct{ items, gone []cache.Item }

func (k *keeper) List(context.Context) ([]cache.Item, error) { return k.items, nil }
func (k *keeper) Delete(_ context.Context, items []cache.Item) error {
	k.gone = append(k.gone, items...)
	return nil
}

func TestRecordOfForeignBytes(t *testing.T) {
	for name, step := range map[string]string{"no-utf-8": "RUN \xff\xfe", "very-long": "RUN " + string(make([]byte, 1<<20)), "html": "RUN a<b && c>d\u2028"} {
		t.Run(name, func(t *testing.T) {
			r, err := cache.NewRecord(cachetest.Key("k"), cache.Entry{Step: step, Created: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			b, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := cache.DecodeRecord(b)
			if err != nil || got != r || len(b) > 16<<10 {
				t.Errorf("%d bytes became %+v, %v", len(b), got, err)
			}
		})
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r, _ := cache.NewRecord(cachetest.Key("k"), cache.Entry{Layer: cachetest.Layer("x"), Created: time.Unix(1, 0)})
	b, _ := r.Encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := cache.DecodeRecord(b)
		if err != nil {
			return
		}
		if _, err := r.Encode(); err != nil {
			t.Errorf("decoded %q and could not encode it: %v", b, err)
		}
	})
}

// TestBreakerHurriesABackendThatFails holds that retries are for the first trouble, and come back with the first success.
func TestBreakerHurriesABackendThatFails(t *testing.T) {
	var hurried []bool
	trouble := errors.New("connection lost")
	b := cache.NewBreaker(nil)
	ask := func(op func(context.Context, func(context.Context) error) (error, error), err error) {
		_, _ = op(t.Context(), func(ctx context.Context) error {
			hurried = append(hurried, cache.InHurry(ctx))
			return err
		})
	}
	for _, err := range []error{nil, trouble, trouble, cache.ErrMiss, nil} {
		ask(b.Reading, err)
	}
	ask(b.Writing, trouble)
	ask(b.Reading, nil) // what cannot be written to may be slow to read, too
	ask(b.Writing, nil)
	ask(b.Writing, nil)
	if want := []bool{false, false, true, true, false, false, true, true, false}; !slices.Equal(hurried, want) {
		t.Errorf("in a hurry: %v, want %v", hurried, want)
	}
}
