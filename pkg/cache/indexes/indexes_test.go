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

func hash(n int) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064x", n)} }

func TestFoundElsewhereIsKeptNear(t *testing.T) {
	near, empty, first, second := newMemory(), newMemory(), newMemory(), newMemory()
	want := &rootfs.Index{}
	first.kept[hash(1)], second.kept[hash(1)] = want, &rootfs.Index{}
	x := indexes.New(t.Context(), indexes.Options{
		Near: near, From: []rootfs.Indexes{empty, first, second}, Report: func(err error) { t.Error(err) },
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
		Near: newMemory(), From: []rootfs.Indexes{unusable}, To: []rootfs.Indexes{good},
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

func TestPutReportsEachPlace(t *testing.T) {
	var mu sync.Mutex
	told := 0
	bad := func() *memory {
		m := newMemory()
		m.trouble = errors.New("refused")
		return m
	}
	x := indexes.New(t.Context(), indexes.Options{
		Near: newMemory(), To: []rootfs.Indexes{bad(), bad()},
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
