package blob

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

const (
	// maxCuts is how often a connection may break before steady bytes have come.
	maxCuts = 3
	steady  = 1 << 20
)

// resuming opens an object of size bytes. Its reader goes on where it was when a connection breaks.
func (s *Store) resuming(name string, size int64) (io.ReadCloser, error) {
	rc, err := s.get(s.life, name, 0)
	if err != nil {
		return nil, err
	}
	return &resumed{store: s, name: name, size: size, rc: rc}, nil
}

type resumed struct {
	store *Store
	name  string
	size  int64
	rc    io.ReadCloser
	off   int64
	since int64 // off when cuts began to count
	cuts  int
}

func (r *resumed) Read(p []byte) (int, error) {
	n, err := r.rc.Read(p)
	r.off += int64(n)
	if r.off-r.since >= steady {
		r.since, r.cuts = r.off, 0
	}
	if err == nil || r.off >= r.size || !r.mayResume(err) {
		return n, err
	}
	r.cuts++
	rc, again := r.store.get(r.store.life, r.name, r.off)
	if again != nil {
		return n, fmt.Errorf("%w; after %d bytes: %w", err, r.off, again)
	}
	_ = r.rc.Close()
	r.rc = rc
	return n, nil
}

// mayResume says that the rest may still come. An object that ends early was cut, too.
func (r *resumed) mayResume(err error) bool {
	return r.cuts < maxCuts && context.Cause(r.store.life) == nil && !errors.Is(err, cache.ErrUnusable)
}

func (r *resumed) Close() error { return r.rc.Close() }
