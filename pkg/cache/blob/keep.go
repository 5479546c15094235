package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

const (
	// parallel is how many objects are read, or deleted, at a time.
	parallel = 8
	// grace is how old a blob that no record names has to be before it is taken for one that was left: a build puts
	// it before the record.
	grace = time.Hour
)

// List implements cache.Keeper, with one request for each entry.
func (s *Store) List(ctx context.Context) ([]cache.Item, error) {
	var mu sync.Mutex
	var items []cache.Item
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for o, err := range s.bucket.List(ctx, stepsDir) {
		if err != nil {
			return nil, errors.Join(fmt.Errorf("list cache %s: %w", s.bucket, err), group.Wait())
		}
		group.Go(func() error {
			it, err := s.item(gctx, o)
			if err != nil || it.Name == "" {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			items = append(items, it)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("list cache %s: %w", s.bucket, err)
	}
	for prefix, name := range map[string]string{indexesDir + "sha256-": "index-", notesDir: "note-"} {
		for o, err := range s.bucket.List(ctx, prefix) {
			if err != nil {
				return nil, fmt.Errorf("list cache %s: %w", s.bucket, err)
			}
			hex := strings.TrimPrefix(o.Name, prefix)
			items = append(items, cache.Item{Name: name + hex, Created: o.Modified, Size: o.Size, Ref: o.Name})
		}
	}
	return items, nil
}

// item describes an object of steps. It is empty when the object has gone meanwhile.
func (s *Store) item(ctx context.Context, o Object) (cache.Item, error) {
	it := cache.Item{Name: strings.TrimPrefix(o.Name, stepsDir), Created: o.Modified, Size: o.Size, Ref: o.Name}
	rec, err := s.record(ctx, o.Name)
	var damaged *damagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cache.Item{}, nil
	case errors.As(err, &damaged):
		it.Problem = err.Error()
		return it, nil
	case err != nil:
		return cache.Item{}, err
	}
	it.Key, it.Created, it.Step, it.Layer = rec.Key, rec.Created, rec.Step, rec.Layer
	if rec.Layer != nil {
		it.Size += rec.Layer.Size
	}
	return it, nil
}

// Delete implements cache.Keeper. Blobs that no entry names any more go as well, once they are an hour old. A build that
// reuses such a blob at this very moment leaves an entry whose layer is lost, which is found out when it is read.
func (s *Store) Delete(ctx context.Context, items []cache.Item) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, it := range items {
		group.Go(func() error { return s.bucket.Delete(gctx, it.Ref) })
	}
	err := group.Wait()
	if err == nil {
		err = s.sweep(ctx)
	}
	if err != nil {
		return fmt.Errorf("delete from cache %s: %w", s.bucket, err)
	}
	return nil
}

// sweep deletes blobs that no record names. Blobs are listed first: what is named by a record that is written
// afterwards was put, or found, afterwards as well.
func (s *Store) sweep(ctx context.Context) error {
	old := map[string]bool{}
	for o, err := range s.bucket.List(ctx, blobsDir) {
		if err != nil {
			return err
		}
		if time.Since(o.Modified) > grace {
			old[o.Name] = true
		}
	}
	if len(old) == 0 {
		return nil
	}
	items, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.Layer != nil {
			delete(old, blobName(it.Layer.Digest))
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for name := range old {
		group.Go(func() error { return s.bucket.Delete(gctx, name) })
	}
	return group.Wait()
}
