package indexes_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/indexes"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// memory keeps indexes, or is in trouble.
type memory struct {
	mu      sync.Mutex
	kept    map[v1.Hash]*rootfs.Index
	trouble error
	asked   int
}

func newMemory() *memory { return &memory{kept: map[v1.Hash]*rootfs.Index{}} }

func (m *memory) Index(_ context.Context, diffID v1.Hash) (*rootfs.Index, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.trouble != nil {
		return nil, m.trouble
	}
	if x := m.kept[diffID]; x != nil {
		return x, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memory) PutIndex(_ context.Context, diffID v1.Hash, x *rootfs.Index) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.trouble != nil {
		return m.trouble
	}
	m.kept[diffID] = x
	return nil
}

// places are some of which nothing else is read.
func places(list ...*memory) (all []indexes.Place) {
	for _, m := range list {
		all = append(all, indexes.Place{Indexes: m, Breaker: cache.NewBreaker(nil)})
	}
	return all
}

func hash(n int) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064x", n)} }

func TestFoundElsewhereIsKeptNear(t *testing.T) {
	near, empty, first, second := newMemory(), newMemory(), newMemory(), newMemory()
	want := &rootfs.Index{}
	first.kept[hash(1)], second.kept[hash(1)] = want, &rootfs.Index{}
	x := indexes.New(t.Context(), indexes.Options{
		Near: near, From: places(empty, first, second), Report: func(err error) { t.Error(err) },
	})
	for range 2 {
		got, err := x.Index(t.Context(), hash(1))
		if err != nil || got != want {
			t.Fatalf("got %p, %v, want that of the first place that has one", got, err)
		}
	}
	if near.kept[hash(1)] != want || first.asked != 1 {
		t.Errorf("kept near: %v; asked elsewhere %d times, want once", near.kept, first.asked)
	}
	if _, err := x.Index(t.Context(), hash(2)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown index: %v, want ErrNotExist", err)
	}
}

func TestTroubleElsewhereIsNoError(t *testing.T) {
	unusable := newMemory()
	unusable.trouble = fmt.Errorf("%w: refused", cache.ErrUnusable)
	good := newMemory()
	told := 0
	x := indexes.New(t.Context(), indexes.Options{
		Near: newMemory(), From: places(unusable), To: places(good),
		Report: func(error) { told++ },
	})
	for n := range 10 {
		if _, err := x.Index(t.Context(), hash(n)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Index: %v, want ErrNotExist", err)
		}
	}
	if told != 1 || unusable.asked != 1 {
		t.Errorf("told of %d troubles after asking %d times, want one of each", told, unusable.asked)
	}
	if err := x.PutIndex(t.Context(), hash(1), &rootfs.Index{}); err != nil {
		t.Fatal(err)
	}
	x.Wait()
	if good.kept[hash(1)] == nil {
		t.Error("what was put did not arrive")
	}
}

// TestPlaceThatFailsIsGivenUp holds that trouble of any kind ends, with entries or with indexes.
func TestPlaceThatFailsIsGivenUp(t *testing.T) {
	bad := newMemory()
	bad.trouble = errors.New("connection lost")
	told := 0
	where := places(bad)
	x := indexes.New(t.Context(), indexes.Options{Near: newMemory(), From: where, Report: func(error) { told++ }})
	for n := range 10 {
		if _, err := x.Index(t.Context(), hash(n)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Index: %v, want ErrNotExist", err)
		}
	}
	if told != 3 || bad.asked != 3 {
		t.Errorf("told of %d troubles after asking %d times, want three", told, bad.asked)
	}
	if read, _ := where[0].Breaker.Reason(); read == nil {
		t.Error("entries of the same backend are still looked up")
	}
}

func TestPutReportsEachPlace(t *testing.T) {
	var mu sync.Mutex
	told := 0
	bad := func() *memory {
		m := newMemory()
		m.trouble = errors.New("refused")
		return m
	}
	x := indexes.New(t.Context(), indexes.Options{
		Near: newMemory(), To: places(bad(), bad()),
		Report: func(error) {
			mu.Lock()
			defer mu.Unlock()
			told++
		},
	})
	if err := x.PutIndex(t.Context(), hash(1), &rootfs.Index{}); err != nil {
		t.Fatal(err)
	}
	x.Wait()
	if told != 2 {
		t.Errorf("told of %d troubles, want two", told)
	}
}
