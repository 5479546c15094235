package cachemount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

const (
	// parallel is how many caches are saved at a time.
	parallel = 4
	// lockTimeout is how long a cache that another build keeps to itself is waited for.
	lockTimeout = 10 * time.Second
	// tries is how often a cache is read that other builds are changing.
	tries = 3
	// pause is how long they are given to come to an end.
	pause = 200 * time.Millisecond
)

// Save begins to save the caches that the build has used, and returns what waits for the end of that. No process of the build may
// be running.
func (k *Keeper) Save(ctx context.Context) (wait func()) {
	if len(k.to) == 0 {
		return func() {}
	}
	var g errgroup.Group
	g.SetLimit(parallel)
	var all sync.WaitGroup
	all.Go(func() {
		for _, o := range k.used() {
			g.Go(func() error {
				if err := k.save(ctx, o); err != nil && ctx.Err() == nil {
					k.warn("save", o, err)
				}
				return nil
			})
		}
		_ = g.Wait() // each has had its own say
	})
	return all.Wait
}

func (k *Keeper) used() (list []*opened) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.opened {
		list = append(list, o)
	}
	return list
}

// saving is one cache on its way to places.
type saving struct {
	k *Keeper
	*opened
	to []*place // those that are not in trouble
}

// save puts what has changed in a cache where it is to be.
func (k *Keeper) save(ctx context.Context, o *opened) error {
	s := &saving{k: k, opened: o}
	for _, p := range k.to {
		if read, write := p.Reason(); read == nil && write == nil {
			s.to = append(s.to, p)
		}
	}
	if len(s.to) == 0 {
		return nil // which was told
	}
	made, err := s.read(ctx)
	if err != nil || made == nil {
		return err
	}
	defer made.Close()
	if made.blob == nil {
		return made.remember(made.below)
	}
	return s.put(ctx, made)
}

// made is a layer that is to be saved.
type made struct {
	sandbox.CacheReading
	below *chain
	blob  *snapshot.Blob // nil when nothing has changed
}

// Close forgets what was not remembered, and removes the layer's file.
func (m *made) Close() error {
	err := m.CacheReading.Close()
	if m.blob != nil {
		err = errors.Join(err, os.Remove(m.blob.Location()))
	}
	return err
}

func (m *made) remember(ch *chain) error {
	note, err := ch.encode()
	if err != nil {
		return err
	}
	return m.Remember(note)
}

// read makes a layer of what has changed in a cache, or of all of it, while nobody has it for themselves. It returns nil for a
// copy that is not to be saved.
func (s *saving) read(ctx context.Context) (*made, error) {
	lockCtx, cancel := context.WithTimeoutCause(ctx, lockTimeout, errors.New("another build has it locked"))
	defer cancel()
	dir, release, err := s.k.o.Lock(lockCtx, s.id)
	if err != nil {
		return nil, err
	}
	defer release() //nolint:errcheck // the file is closed in any case
	if dir != s.dir {
		return nil, nil // a copy that was made because another process had the cache for itself
	}
	if ok, err := s.driver.CachePrepared(dir); !ok || err != nil {
		return nil, err // the process was never started
	}
	note, err := s.driver.CacheNote(dir)
	if err != nil {
		return nil, err
	}
	below := decodeChain(note, s.identity)
	if below == nil || !s.haveAll(ctx, below) {
		return s.layer(ctx, s.anew(), 0)
	}
	m, err := s.layer(ctx, below, 0)
	if err != nil || m.blob == nil {
		return m, err
	}
	size, err := m.blob.Size()
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	switch merge := below.merge(size); {
	case below.outgrown(size, s.k.o.TTL):
		if err := m.Close(); err != nil {
			return nil, err
		}
		return s.layer(ctx, s.anew(), 0)
	case merge > 0:
		if merged, err := s.layer(ctx, below, merge); err == nil {
			return merged, m.Close()
		}
		// What is in the layers is not known here any more.
	}
	return m, nil
}

// anew is a chain that is to be begun.
func (s *saving) anew() *chain { return &chain{Cache: s.identity.key(v1.Hash{})} }

// haveAll reports whether every place has all layers of a chain. A place that cannot tell is left alone.
func (s *saving) haveAll(ctx context.Context, ch *chain) bool {
	all := true
	var good []*place
	for _, p := range s.to {
		has, err := ch.isIn(ctx, p, s.identity)
		if err != nil {
			if ctx.Err() == nil {
				s.k.warn("save", s.opened, fmt.Errorf("%s: %w", p.name, err))
			}
			continue
		}
		good = append(good, p)
		all = all && has
	}
	s.to = good
	return all
}

// layer reads what a cache has that the chain has not, in place of so many of its uppermost layers. What others are changing
// meanwhile is read again.
func (s *saving) layer(ctx context.Context, below *chain, merge int) (m *made, err error) {
	o := sandbox.ReadCacheOptions{Layers: below.layers(), Merge: merge, MaxSize: s.k.o.MaxSize}
	below = &chain{below.Cache, below.Links[:len(below.Links)-merge]}
	for try := range tries {
		if try > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		r, openErr := s.driver.ReadCache(ctx, s.dir, o)
		if openErr != nil {
			return nil, openErr
		}
		m = &made{CacheReading: r, below: below}
		if m.blob, err = snapshot.Write(ctx, r.Changes(), s.k.o.Layer); err == nil {
			return m, nil
		}
		err = errors.Join(err, r.Close())
		var size *sandbox.CacheSizeError
		if errors.As(err, &size) || ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// put puts a layer into all places, and remembers that they have it if at least one does.
func (s *saving) put(ctx context.Context, m *made) error {
	e := cache.Entry{Layer: m.blob, Created: time.Now(), Below: chainID(m.below.Links), Step: s.identity.String()}
	l, err := linkOf(e)
	if err != nil {
		return err
	}
	ch := &chain{m.below.Cache, append(m.below.Links[:len(m.below.Links):len(m.below.Links)], l)}
	if err := s.k.o.Indexes.PutIndex(ctx, l.Layer.DiffID, m.blob.FileIndex()); err != nil {
		return err
	}
	saved := false
	for _, p := range s.to {
		err := p.put(ctx, e, s.identity.key(chainID(ch.Links)), ch.Cache)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, errGivenUp) {
				s.k.warn("save", s.opened, fmt.Errorf("%s: %w", p.name, err))
			}
			continue
		}
		saved = true
		s.k.o.Info(fmt.Sprintf("saved %s to %s: %s more, now %s", s.identity, p.name, units.HumanSize(float64(l.Layer.Size)), describe(ch)))
	}
	if !saved {
		return nil
	}
	return m.remember(ch)
}

var errGivenUp = errors.New("given up")

// put puts an entry under its keys, in their order.
func (p *place) put(ctx context.Context, e cache.Entry, keys ...cache.Key) error {
	for _, key := range keys {
		if err := p.Put(ctx, key, e); err != nil {
			return err
		}
		if _, reason := p.Reason(); reason != nil {
			return errGivenUp
		}
	}
	return nil
}
