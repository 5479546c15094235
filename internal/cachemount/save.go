package cachemount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
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
	as Identity // by which layers are put; the cache's own unless another has what is there already
	to []*place // those that are not in trouble
}

// save puts what has changed in a cache where it is to be.
func (k *Keeper) save(ctx context.Context, o *opened) error {
	s := &saving{k: k, opened: o, as: o.identity}
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
		s.shareWithOthers(ctx, made.below)
		return made.remember(s.as, made.below)
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

func (m *made) remember(as Identity, ch *chain) error {
	ch.For = as.Platform
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
	if below == nil || !s.findAll(ctx, below) {
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
func (s *saving) anew() *chain { return &chain{Cache: s.identity.family()} }

// others are what the cache is to be saved as besides s.as, in an order that is the same each time.
func (s *saving) others() (list []Identity) {
	for _, id := range append([]Identity{s.identity}, s.usedOn()...) {
		if !id.equals(s.as) && !slices.ContainsFunc(list, id.equals) {
			list = append(list, id)
		}
	}
	slices.SortFunc(list, func(a, b Identity) int { return strings.Compare(a.Platform.String(), b.Platform.String()) })
	return list
}

func (s *saving) usedOn() (list []Identity) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	for _, p := range s.users {
		list = append(list, s.identity.on(p))
	}
	return list
}

// findAll reports whether every place has all layers of a chain as one of the identities, which is then s.as. What this machine
// saved last for a platform that is not built for now is put in place for one that is.
func (s *saving) findAll(ctx context.Context, ch *chain) bool {
	own := s.as
	for _, id := range append([]Identity{own}, s.others()...) {
		if s.as = id; s.haveAll(ctx, ch) {
			return true
		}
	}
	s.as = own.on(ch.For)
	if !s.haveAll(ctx, ch) {
		s.as = own
		return false
	}
	s.shareWithOthers(ctx, ch)
	s.as = own
	return s.haveAll(ctx, ch)
}

// haveAll reports whether every place has all layers of a chain. A place that cannot tell is left alone.
func (s *saving) haveAll(ctx context.Context, ch *chain) bool {
	all := true
	var good []*place
	for _, p := range s.to {
		has, err := ch.isIn(ctx, p, s.as)
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
	below = &chain{Cache: below.Cache, Links: below.Links[:len(below.Links)-merge]}
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
	e := cache.Entry{Layer: m.blob, Created: time.Now(), Below: chainID(m.below.Links), Step: s.as.String()}
	l, err := linkOf(e)
	if err != nil {
		return err
	}
	ch := &chain{Cache: m.below.Cache, Links: append(m.below.Links[:len(m.below.Links):len(m.below.Links)], l)}
	if err := s.k.o.Indexes.PutIndex(ctx, l.Layer.DiffID, m.blob.FileIndex()); err != nil {
		return err
	}
	var saved []*place
	for _, p := range s.to {
		err := p.put(ctx, e, s.as.key(chainID(ch.Links)), s.as.key(v1.Hash{}))
		if err != nil {
			s.trouble(ctx, p, err)
			continue
		}
		saved = append(saved, p)
		s.k.o.Info(fmt.Sprintf("saved %s to %s: %s more, now %s", s.as, p.name, units.HumanSize(float64(l.Layer.Size)), describe(ch)))
	}
	if len(saved) == 0 {
		return nil
	}
	s.to = saved
	s.shareWithOthers(ctx, ch)
	return m.remember(s.as, ch)
}

func (s *saving) trouble(ctx context.Context, p *place, err error) {
	if ctx.Err() == nil && !errors.Is(err, errGivenUp) {
		s.k.warn("save", s.opened, fmt.Errorf("%s: %w", p.name, err))
	}
}

// shareWithOthers saves a chain that all places have for the other platforms whose steps use the cache. Its layers are there,
// so no place is sent one.
func (s *saving) shareWithOthers(ctx context.Context, ch *chain) {
	if len(ch.Links) == 0 {
		return
	}
	for _, id := range s.others() {
		for _, p := range s.to {
			switch did, err := p.share(ctx, ch, s.as, id); {
			case err != nil:
				s.trouble(ctx, p, err)
			case did:
				s.k.o.Info(fmt.Sprintf("saved %s to %s: what that for %s/%s has", id, p.name, s.as.Platform.OS, s.as.Platform.Architecture))
			}
		}
	}
}

// share puts the entries of a chain that is saved as one identity under the keys of another, unless they are there.
func (p *place) share(ctx context.Context, ch *chain, as, other Identity) (did bool, err error) {
	last := len(ch.Links) - 1
	now, err := p.Get(ctx, other.key(v1.Hash{}))
	if err != nil && !errors.Is(err, cache.ErrMiss) {
		return false, err
	}
	if err == nil && now.Below == chainID(ch.Links[:last]) {
		if l, err := linkOf(now); err == nil && l.Layer.DiffID == ch.Links[last].Layer.DiffID {
			return false, nil
		}
	}
	for i := range ch.Links {
		id := chainID(ch.Links[:i+1])
		if _, err := p.Get(ctx, other.key(id)); err == nil && i < last {
			continue
		}
		e, err := p.Get(ctx, as.key(id))
		if err != nil {
			return false, err
		}
		e.Step = other.String()
		keys := []cache.Key{other.key(id)}
		if i == last {
			keys = append(keys, other.key(v1.Hash{}))
		}
		if err := p.put(ctx, e, keys...); err != nil {
			return false, err
		}
	}
	return true, nil
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
