// Package registry keeps results of steps in a repository of a container registry, so that a machine that has never built
// before finds them.
//
// An entry is an ordinary image of its own, with the key as its tag: every registry takes it, nothing is shared that two
// builds could overwrite for each other, and the registry's own tools show and remove it. The image has the step's layer,
// and an annotation with the record of the entry, so that a hit costs one request and no bytes of layers. File
// indexes of layers, and notes, lie beside the entries, under tags of their own.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// defaultTimeout is how long a look-up may take with all retries: what it saves is rarely more than minutes.
const defaultTimeout = time.Minute

// Options say how the repository is reached.
type Options struct {
	// Direction is by which of the client's rules entries are read; empty means registry.Push, for a repository that is
	// written, too. A repository that is only read wants registry.Pull, since credentials may allow no more. Writing
	// is a push always.
	Direction registry.Direction
	// Timeout bounds one look-up; 0 means a minute.
	Timeout time.Duration
}

// Store keeps entries in one repository. It implements cache.Store, rootfs.Indexes, cache.Notes and cache.Keeper.
type Store struct {
	client *registry.Client
	repo   string
	o      Options
	// absent says that the registry does not know the repository, so that nothing can be in it. It comes into being with the
	// first push, in most registries.
	absent atomic.Bool
	// indexed has the diff IDs of layers whose index is there, useless those of layers whose index could not be read.
	indexed, useless sync.Map
}

var (
	_ cache.Store    = (*Store)(nil)
	_ cache.Keeper   = (*Store)(nil)
	_ cache.Notes    = (*Store)(nil)
	_ rootfs.Indexes = (*Store)(nil)
)

// Open returns the store in the repository that ref names, without asking the registry. A tag in ref, which other
// builders need, is of no meaning here. Layers that are found can be read until c is closed.
func Open(c *registry.Client, ref string, o Options) (*Store, error) {
	r, err := registry.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	if _, ok := r.(name.Digest); ok {
		return nil, fmt.Errorf("open cache: %q names one image, give a repository", ref)
	}
	if o.Direction == "" {
		o.Direction = registry.Push
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	return &Store{client: c, repo: r.Context().Name(), o: o}, nil
}

// String is the repository, for messages.
func (s *Store) String() string { return s.repo }

func (s *Store) tag(tag string) string { return s.repo + ":" + tag }

// Get implements cache.Store. An entry that is not what Put writes is missing.
func (s *Store) Get(ctx context.Context, k cache.Key) (cache.Entry, error) {
	m, err := s.manifest(patience(ctx), k.String())
	if err != nil {
		return cache.Entry{}, readError(err)
	}
	rec, desc, err := parseEntry(m)
	if err == nil && rec.Key != k {
		err = fmt.Errorf("it is that of %v", rec.Key)
	}
	if err != nil {
		return cache.Entry{}, cache.Miss(fmt.Errorf("entry %q: %w", s.tag(k.String()), err))
	}
	if rec.Layer == nil {
		return rec.Entry(nil), nil
	}
	// The way to the bytes is marked below what says where they can be mounted from.
	l, err := s.client.Layer(ctx, s.tag(k.String()), s.o.Direction, desc, rec.Layer.DiffID)
	if err != nil {
		return cache.Entry{}, readError(err)
	}
	return rec.Entry(marked(l, k)), nil
}

// patience is ctx, without another attempt in a hurry.
func patience(ctx context.Context) context.Context {
	if cache.InHurry(ctx) {
		return registry.WithoutRetry(ctx)
	}
	return ctx
}

// errSlow is why a look-up was given up.
var errSlow = errors.New("the registry did not answer in time")

// manifest gets what tag names. Nothing is asked of a registry that does not know the repository.
func (s *Store) manifest(ctx context.Context, tag string) (v1.Descriptor, error) {
	if s.absent.Load() {
		return v1.Descriptor{}, cache.Miss(fmt.Errorf("there is no repository %q", s.repo))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Timeout, errSlow)
	defer cancel()
	m, err := s.client.Manifest(ctx, s.tag(tag), s.o.Direction)
	if registry.UnknownRepository(err) {
		s.absent.Store(true)
	}
	return m, err
}

// readError tells a miss from trouble, and trouble that passes from trouble that stays.
func readError(err error) error {
	switch {
	case errors.Is(err, cache.ErrMiss):
		return err
	case registry.NotFound(err):
		return cache.Miss(err)
	case errors.Is(err, errSlow) || stays(err):
		return fmt.Errorf("%w: %w", cache.ErrUnusable, err)
	}
	return err
}

// writeError is readError for what is written: there, a repository that is not found stays so.
func writeError(err error) error {
	if registry.NotFound(err) || stays(err) {
		return fmt.Errorf("%w: %w", cache.ErrUnusable, err)
	}
	return err
}

// stays says that the registry would answer the same for any other entry.
func stays(err error) bool {
	switch registry.Status(err) {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed:
		return true
	case 0: // no answer
	default:
		return false
	}
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}
