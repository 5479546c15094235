package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/pflag"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/azblob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/dir"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/gcs"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/s3"
	cacheregistry "github.com/gobuild-dev/gobuild/pkg/cache/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry"
)

// cacheFlags say where results of steps are kept besides the work directory. Those of Kaniko name one repository, those of
// buildx any number of places.
type cacheFlags struct {
	none     bool
	noneOf   []string
	ttl      time.Duration
	explain  bool
	from, to []string

	kaniko       bool
	repo         string
	noPush       bool
	copies, runs bool
	bases        []string
}

func (c *cacheFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&c.none, "no-cache", false, "run every step anew, whatever was kept of earlier builds")
	f.StringSliceVar(&c.noneOf, "no-cache-filter", nil, "`stage` whose steps are run anew (repeatable)")
	f.DurationVar(&c.ttl, "cache-ttl", 336*time.Hour, "how old a kept result of a step may be; 0 runs every step anew and keeps the results")
	f.BoolVar(&c.explain, "explain-cache", false, "say for each stage why the first step that is run anew is")
	f.StringArrayVar(&c.from, "cache-from", nil, "`place` to look for results of steps in: a repository, an image that was built with --cache-to type=inline, or type=registry|local|s3|azblob|gcs,... (repeatable)")
	f.StringArrayVar(&c.to, "cache-to", nil, "`place` to keep results of steps in; type=inline is the image itself (repeatable)")
	f.BoolVar(&c.kaniko, "cache", false, "look for results in the repository --cache-repo, and keep them there")
	f.StringVar(&c.repo, "cache-repo", "", "`repository` for --cache, or oci:DIRECTORY (default the first destination's name and /cache)")
	f.BoolVar(&c.noPush, "no-push-cache", false, "only look in --cache-repo")
	f.StringArrayVar(&c.bases, "cache-dir", nil, "`directory` that 'gobuild warm --cache-dir' has filled with base images (repeatable)")
	f.BoolVar(&c.copies, "cache-copy-layers", true, "keep results of COPY and ADD in other places than the work directory too")
	f.BoolVar(&c.runs, "cache-run-layers", true, "keep results of RUN in other places than the work directory too")
}

// places are what the flags name; a place that is looked in and kept in stands in both.
func (c *cacheFlags) places(destinations []string) (from, to []cache.Place, err error) {
	for _, word := range c.from {
		p, err := cache.ParsePlace(word, cache.From)
		if err != nil {
			return nil, nil, &usageError{err}
		}
		from = append(from, p)
	}
	for _, word := range c.to {
		p, err := cache.ParsePlace(word, cache.To)
		if err != nil {
			return nil, nil, &usageError{err}
		}
		to = append(to, p)
	}
	if !c.kaniko {
		return from, to, nil
	}
	repo, err := c.repository(destinations)
	if err != nil {
		return nil, nil, err
	}
	from = append(from, repo)
	if !c.noPush {
		to = append(to, repo)
	}
	return from, to, nil
}

// repository is the place that --cache means.
func (c *cacheFlags) repository(destinations []string) (cache.Place, error) {
	if path, ok := strings.CutPrefix(c.repo, "oci:"); ok {
		return cache.Place{Type: cache.PlaceLocal, Values: map[string]string{"src": path, "dest": path}}, nil
	}
	repo := c.repo
	if repo == "" {
		if len(destinations) == 0 {
			return cache.Place{}, usagef("--cache without a --destination needs a --cache-repo")
		}
		ref, err := registry.ParseReference(destinations[0])
		if err != nil {
			return cache.Place{}, &usageError{err}
		}
		repo = ref.Context().Name() + "/cache"
	}
	return cache.Place{Type: cache.PlaceRegistry, Values: map[string]string{"ref": repo}}, nil
}

// apply opens the places for o. What it returns closes them, after the build.
func (c *cacheFlags) apply(ctx context.Context, o *build.Options, destinations []string, warn func(string)) (closeAll func() error, err error) {
	o.NoCache, o.NoCacheFilter, o.ExplainCache = c.none, c.noneOf, c.explain
	o.CacheTTL = max(c.ttl, 1) // zero is any age there
	opened := placeOpener{client: o.Registry, images: o.Platform}
	if o.Platform.OS == "" {
		opened.images = build.HostPlatform()
	}
	from, to, err := c.places(destinations)
	if err != nil {
		return opened.Close, err
	}
	for _, p := range slices.Concat(from, to) {
		for _, name := range p.Ignored {
			warn(fmt.Sprintf("option %s of a cache of type %s changes nothing here", name, p.Type))
		}
	}
	isInline := func(p cache.Place) bool { return p.Type == cache.PlaceInline }
	o.InlineCache = slices.ContainsFunc(to, isInline)
	to = slices.DeleteFunc(to, isInline)
	if o.CacheTo, err = opened.all(ctx, to, cache.To); err != nil {
		return opened.Close, err
	}
	if o.CacheFrom, err = opened.all(ctx, from, cache.From); err != nil {
		return opened.Close, err
	}
	o.BaseDirs = c.defaultBases()
	o.NoCacheCopies, o.NoCacheRuns = !c.copies, !c.runs
	return opened.Close, nil
}

// placeOpener opens places, each once.
type placeOpener struct {
	client *registry.Client
	// images, when not zero, lets repositories that are read be images with an inline cache, too; those for this platform are
	// preferred.
	images v1.Platform
	opened map[string]build.CacheStore
	closes []func() error
}

func (p *placeOpener) all(ctx context.Context, places []cache.Place, use cache.Use) ([]build.CacheStore, error) {
	var stores []build.CacheStore
	for _, place := range places {
		var s build.CacheStore
		var err error
		if use == cache.From && place.Type == cache.PlaceRegistry && p.images.OS != "" {
			s, err = p.repositoryOrImage(ctx, place)
		} else {
			s, err = p.open(ctx, place, use)
		}
		if err != nil {
			return nil, err
		}
		stores = append(stores, s)
	}
	return stores, nil
}

func (p *placeOpener) open(ctx context.Context, place cache.Place, use cache.Use) (build.CacheStore, error) {
	name := placeName(place)
	if s, ok := p.opened[name]; ok {
		return s, nil
	}
	store, end, err := openPlace(ctx, p.client, place, use)
	if err != nil {
		return build.CacheStore{}, err
	}
	s := build.CacheStore{Name: name, Store: store}
	if p.opened == nil {
		p.opened = map[string]build.CacheStore{}
	}
	p.opened[name] = s
	p.closes = append(p.closes, end)
	return s, nil
}

// repositoryOrImage opens what a reference names that is read. With a digest that is an image; with a tag it is an image, and
// the repository that has it for what is not in the image; without either it is a repository, and for what is not there, as
// for users of docker build, its image latest.
func (p *placeOpener) repositoryOrImage(ctx context.Context, place cache.Place) (build.CacheStore, error) {
	word := place.Values["ref"]
	ref, err := registry.ParseReference(word)
	if err != nil {
		return build.CacheStore{}, &usageError{err}
	}
	img, err := cacheregistry.OpenImage(p.client, word, p.images, cacheregistry.Options{})
	if err != nil {
		return build.CacheStore{}, err
	}
	image := build.CacheStore{Name: word, Store: img}
	if _, ok := ref.(name.Digest); ok {
		return image, nil
	}
	entries, err := p.open(ctx, place, cache.From)
	if strings.HasSuffix(word, ":"+ref.Identifier()) {
		image.Else = entries.Store
		return image, err
	}
	entries.Else = img
	return entries, err
}

// Close closes what was opened.
func (p *placeOpener) Close() error {
	var err error
	for _, end := range p.closes {
		err = errors.Join(err, end())
	}
	return err
}

// placeName tells places apart, without what is secret.
func placeName(p cache.Place) string {
	switch p.Type {
	case cache.PlaceRegistry:
		return p.Values["ref"]
	case cache.PlaceLocal:
		return placeDir(p)
	case cache.PlaceAzure:
		return p.Values["account_url"] + "/" + p.Values["container"] + "/" + p.Values["prefix"]
	case cache.PlaceS3, cache.PlaceGCS, cache.PlaceInline:
	}
	return string(p.Type) + "://" + p.Values["bucket"] + "/" + p.Values["prefix"]
}

// placeDir is the directory of a place of type local, for reading or for writing.
func placeDir(p cache.Place) string {
	path := p.Values["src"]
	if path == "" {
		path = p.Values["dest"]
	}
	return filepath.Clean(path)
}

// openPlace opens the store of one place, and returns what ends it. No place is asked for anything yet. One that is only
// looked in is reached by the rules for pulling.
func openPlace(ctx context.Context, client *registry.Client, p cache.Place, use cache.Use) (cache.Store, func() error, error) {
	nothing := func() error { return nil }
	var bucket blob.Bucket
	var err error
	switch p.Type {
	case cache.PlaceRegistry:
		o := cacheregistry.Options{}
		if use == cache.From {
			o.Direction = registry.Pull
		}
		s, err := cacheregistry.Open(client, p.Values["ref"], o)
		return s, nothing, err
	case cache.PlaceLocal:
		bucket = dir.Open(placeDir(p))
	case cache.PlaceS3:
		bucket, err = s3.Open(s3.OptionsOf(p))
	case cache.PlaceAzure:
		bucket, err = azblob.Open(azblob.OptionsOf(p))
	case cache.PlaceGCS:
		bucket, err = gcs.Open(ctx, gcs.OptionsOf(p))
	default:
		return nil, nil, usagef("a cache of type %s is only for results of steps, with --cache-to", p.Type)
	}
	if err != nil {
		return nil, nil, err
	}
	s := blob.New(bucket)
	return s, s.Close, nil
}
