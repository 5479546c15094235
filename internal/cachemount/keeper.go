// Package cachemount lets the directories that RUN --mount=type=cache gives to processes live on in places that machines
// share.
//
// A cache that is not on this machine yet is made of the layers that a place has of it, when the first process that mounts it
// has to run. At the end of the build what has changed is put on top of them as a further layer. A chain of layers that
// has become long, or has much in it that later layers replace, is begun anew. Trouble is a warning, and leaves a cache
// empty or as it was.
package cachemount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Place is where caches are shared.
type Place struct {
	Name string // for messages
	cache.Store
}

// Options say where caches are found and saved. Functions are called from several goroutines.
type Options struct {
	// From are looked in, in order, until one has the cache. To are where it is saved.
	From, To []Place
	// TTL is how old the newest layer of a cache may be; zero is any age.
	TTL time.Duration
	// MaxSize is how many bytes a cache may have to be saved, and its layers to be fetched; zero is no limit.
	MaxSize int64
	// Layer says how layers are written.
	Layer snapshot.Options
	// Indexes are those of the driver, which is to find what saved layers have in them.
	Indexes rootfs.Indexes
	// Lock takes the cache on this machine that builds do not keep to themselves until release is called; nobody prunes or has
	// it locked meanwhile.
	Lock func(ctx context.Context, id string) (dir string, release func() error, err error)
	// Platforms are those of all steps of the build that mount a cache. One that nobody has saved for a step's own platform is
	// looked for by theirs, in this order. It may be nil.
	Platforms func(id string) []v1.Platform
	// Warn and Info tell the user.
	Warn, Info func(text string)
}

// Keeper keeps the caches of one build. It is safe for concurrent use.
type Keeper struct {
	o        Options
	from, to []*place

	mu     sync.Mutex
	opened map[string]*opened // by directory
	unable sync.Once
}

// place is a Place that is given up when it is in lasting trouble.
type place struct {
	name string
	*cache.Breaker
}

// opened is a cache that processes of this build mount.
type opened struct {
	identity Identity      // by which it was restored, or is to be
	users    []v1.Platform // of the steps that mount it, besides; owned by the keeper's lock
	id, dir  string
	driver   sandbox.CacheSharer
	filled   chan struct{} // closed when it is known whether the cache could be restored
}

// New returns the keeper of a build that is about to begin.
func New(o Options) *Keeper {
	k := &Keeper{o: o, opened: map[string]*opened{}}
	known := map[cache.Store]*place{} // so that a place that is both is given up once
	guard := func(list []Place) (out []*place) {
		for _, p := range list {
			if known[p.Store] == nil {
				known[p.Store] = &place{p.Name, cache.NewBreaker(p.Store)}
			}
			out = append(out, known[p.Store])
		}
		return out
	}
	k.from, k.to = guard(o.From), guard(o.To)
	return k
}

// Open restores the cache in dir, which a process is about to mount and has taken, unless it is prepared already. Of
// several that ask at once all wait for the first, and nothing is asked for twice.
func (k *Keeper) Open(ctx context.Context, d sandbox.Driver, id string, p v1.Platform, dir string) {
	driver, ok := d.(sandbox.CacheSharer)
	if !ok {
		k.unable.Do(func() { k.o.Warn(fmt.Sprintf("cache mounts are not shared: isolation %s cannot read them", d.Name())) })
		return
	}
	k.mu.Lock()
	o := k.opened[dir]
	mine := o == nil
	if mine {
		o = &opened{identity: Identity{ID: id, Platform: p}, id: id, dir: dir, driver: driver, filled: make(chan struct{})}
		k.opened[dir] = o
	}
	if !slices.ContainsFunc(o.users, func(u v1.Platform) bool { return u.Equals(p) }) {
		o.users = append(o.users, p)
	}
	k.mu.Unlock()
	if mine {
		defer close(o.filled)
		if err := k.open(ctx, o); err != nil && ctx.Err() == nil {
			k.warn("restore", o, err)
		}
		return
	}
	select {
	case <-o.filled:
	case <-ctx.Done():
	}
}

func (k *Keeper) warn(verb string, o *opened, err error) {
	k.o.Warn(fmt.Sprintf("%s %s: %v", verb, o.identity, err))
}

func (k *Keeper) open(ctx context.Context, o *opened) error {
	owners, err := o.driver.CacheOwners()
	if err != nil {
		return err
	}
	o.identity.OneOwner = !owners
	prepared, err := o.driver.CachePrepared(o.dir)
	if prepared || err != nil {
		return err
	}
	for _, id := range k.mayBe(o.identity) {
		for _, p := range k.from {
			done, err := k.restore(ctx, o, id, p)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil && !errors.Is(err, cache.ErrMiss) {
				k.warn("restore", o, fmt.Errorf("%s: %w", p.name, err))
			}
			if done {
				o.identity = id
				return nil
			}
		}
	}
	return nil
}

// mayBe lists by what a cache may have been saved that is to be used as id: that first.
func (k *Keeper) mayBe(id Identity) []Identity {
	list := []Identity{id}
	if k.o.Platforms == nil {
		return list
	}
	for _, p := range k.o.Platforms(id.ID) {
		if other := id.on(p); !slices.ContainsFunc(list, other.equals) {
			list = append(list, other)
		}
	}
	return list
}

// restore fills a cache from one place, with what was saved as id.
func (k *Keeper) restore(ctx context.Context, o *opened, id Identity, p *place) (done bool, err error) {
	ch, layers, err := find(ctx, p, id)
	if err != nil {
		return false, err
	}
	if age := time.Since(ch.Links[len(ch.Links)-1].Created); k.o.TTL > 0 && age >= k.o.TTL {
		return false, &cache.ExpiredError{Age: age, TTL: k.o.TTL}
	}
	if k.o.MaxSize > 0 && ch.size() > k.o.MaxSize {
		return false, &sandbox.CacheSizeError{Size: ch.size(), Max: k.o.MaxSize}
	}
	note, err := ch.encode()
	if err != nil {
		return false, err
	}
	if err := o.driver.FillCache(ctx, o.dir, layers, note); err != nil {
		return false, fmt.Errorf("the cache begins empty: %w", err)
	}
	k.o.Info(fmt.Sprintf("restored %s from %s: %s", id, p.name, describe(ch)))
	return true, nil
}

// describe is what a chain is, for the user.
func describe(ch *chain) string {
	layers := "1 layer"
	if n := len(ch.Links); n != 1 {
		layers = fmt.Sprintf("%d layers", n)
	}
	return strings.Join([]string{layers, units.HumanSize(float64(ch.size()))}, ", ")
}
