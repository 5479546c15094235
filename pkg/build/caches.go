package build

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/indexes"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// maxPuts is how many results are put into caches at a time, beside the upload of the image.
const maxPuts = 8

// CacheStore keeps results of steps in a place that other machines reach too. See the packages below pkg/cache for what
// there is.
type CacheStore struct {
	// Name is what warnings call it.
	Name string
	// Store also keeps file indexes if it is a rootfs.Indexes, and what steps were made of if it is a cache.Notes. Whoever
	// opened it closes it, after the build.
	Store cache.Store
	// Else, of a place to look in, is looked in for what Store does not have; nil is nothing. It is as Store is.
	Else cache.Store
}

// caches are the work directory and the places besides it, as the solver sees them.
type caches struct {
	// steps has an end: see wait.
	steps   *cache.Lost
	indexes rootfs.Indexes
	records *sharedRecords

	waits []func()
}

// newCaches puts together what a build looks in and what it fills. Trouble of a place is a warning, and told once;
// what is put there takes its time while the build goes on.
func newCaches(ctx context.Context, o Options, store *local.Store, b *bases) *caches {
	c := &caches{indexes: store}
	ttl := time.Duration(math.MaxInt64)
	if o.CacheTTL > 0 {
		ttl = o.CacheTTL
	}
	if len(o.CacheFrom)+len(o.CacheTo) == 0 {
		c.steps, c.records = cache.NewLost(o.read(cache.Expire(store, ttl))), &sharedRecords{}
		return c
	}
	from, to, breakers := o.places()
	putting := cache.NewLater(ctx, cache.Several(from, to), maxPuts, o.warnCache)
	missing := make([]cache.Store, len(to))
	for i, s := range to {
		missing[i] = cache.IfMissing(s)
	}
	sharing := cache.NewLater(ctx, cache.Several(nil, missing), maxPuts, o.warnCache)
	near := cache.Shared(cache.Expire(store, ttl), o.kinds(sharing))
	far := cache.Layers(cache.Expire(o.kinds(putting), ttl), b.whole)
	c.steps = cache.NewLost(o.read(cache.Tiered(near, far)))
	ix := indexes.New(ctx, indexes.Options{
		Near: store, From: indexesOf(o.CacheFrom, breakers), To: indexesOf(o.CacheTo, breakers), Report: o.warnCache,
	})
	c.indexes = ix
	c.records = newSharedRecords(ctx, o, breakers)
	c.waits = []func(){putting.Wait, sharing.Wait, ix.Wait, c.records.wait}
	return c
}

// wait returns when all that is to be kept is.
func (c *caches) wait() {
	for _, wait := range c.waits {
		wait()
	}
}

// places are the stores to look in, and those to fill, with a breaker before each: a store that is both fails once.
func (o Options) places() (from, to []cache.Store, breakers map[cache.Store]*cache.Breaker) {
	breakers = map[cache.Store]*cache.Breaker{}
	guard := func(s cache.Store) *cache.Breaker {
		if breakers[s] == nil {
			breakers[s] = cache.NewBreaker(s)
		}
		return breakers[s]
	}
	reported := func(p CacheStore, s cache.Store) cache.Store {
		return cache.Reported(s, func(err error) { o.warnCache(fmt.Errorf("cache %s: %w", p.Name, err)) })
	}
	for _, p := range o.CacheFrom {
		var s cache.Store = guard(p.Store)
		if p.Else != nil {
			s = cache.Tiered(s, guard(p.Else))
		}
		from = append(from, reported(p, s))
	}
	for _, p := range o.CacheTo {
		to = append(to, reported(p, guard(p.Store)))
	}
	return from, to, breakers
}

// read lets a store be read unless every step is to be made anew.
func (o Options) read(s cache.Store) cache.Store {
	if o.NoCache {
		return cache.WriteOnly(s)
	}
	return s
}

// kinds puts those steps into s that are to be there.
func (o Options) kinds(s cache.Store) cache.Store {
	if !o.NoCacheCopies && !o.NoCacheRuns {
		return s
	}
	return cache.Only(s, func(e cache.Entry) bool { return o.keeps(e.Kind) })
}

func indexesOf(places []CacheStore, breakers map[cache.Store]*cache.Breaker) (list []indexes.Place) {
	for _, p := range places {
		for _, s := range []cache.Store{p.Store, p.Else} {
			if x, ok := s.(rootfs.Indexes); ok {
				list = append(list, indexes.Place{Indexes: x, Breaker: breakers[s]})
			}
		}
	}
	return list
}

// warnCache tells of trouble that makes a build slower and not fail.
func (o Options) warnCache(err error) {
	o.Progress.Emit(progress.Event{Time: time.Now(), Kind: progress.Warning, Text: err.Error()})
}
