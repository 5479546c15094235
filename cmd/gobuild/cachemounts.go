package main

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// cacheMountFlags say where the caches of RUN --mount=type=cache live on.
type cacheMountFlags struct {
	from, to []string
	ttl      time.Duration
	maxSize  string
}

func (c *cacheMountFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&c.from, "cache-mounts-from", nil, "`place`, as for --cache-from, to restore the directories of RUN --mount=type=cache from (repeatable)")
	f.StringArrayVar(&c.to, "cache-mounts-to", nil, "`place` to save them to (repeatable)")
	f.DurationVar(&c.ttl, "cache-mounts-ttl", 336*time.Hour, "how old a saved directory may be; 0 restores none")
	f.StringVar(&c.maxSize, "cache-mounts-max-size", "5GB", "`size` from which on a directory is not saved, or its layers not fetched; 0 is no limit")
}

// apply opens the places for o. What it returns closes them, after the build.
func (c *cacheMountFlags) apply(ctx context.Context, o *build.Options, warn func(string)) (closeAll func() error, err error) {
	opened := placeOpener{client: o.Registry}
	size, err := units.FromHumanSize(c.maxSize)
	if err != nil || size < 0 {
		return opened.Close, usagef("--cache-mounts-max-size %q is not a size such as 500MB or 5GB", c.maxSize)
	}
	o.CacheMounts.MaxSize, o.CacheMounts.TTL = size, max(c.ttl, 1) // zero is any age there
	// Those to write to first: the same place is then reached by the rules for that.
	if o.CacheMounts.To, err = opened.mounts(ctx, c.to, cache.To, warn); err != nil {
		return opened.Close, err
	}
	o.CacheMounts.From, err = opened.mounts(ctx, c.from, cache.From, warn)
	return opened.Close, err
}

// mounts opens places that flags name.
func (p *placeOpener) mounts(ctx context.Context, words []string, use cache.Use, warn func(string)) ([]build.CacheStore, error) {
	var places []cache.Place
	for _, word := range words {
		place, err := cache.ParsePlace(word, use)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--cache-mounts-%s: %w", use, err)}
		}
		for _, name := range place.Ignored {
			warn(fmt.Sprintf("option %s of a cache of type %s changes nothing here", name, place.Type))
		}
		places = append(places, place)
	}
	return p.all(ctx, places, use)
}
