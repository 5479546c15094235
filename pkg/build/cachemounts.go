package build

import (
	"context"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/cachemount"
	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/internal/solve"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// CacheMounts say where the caches of RUN --mount=type=cache live on. Trouble of a place is a warning.
type CacheMounts struct {
	// From are places in which a cache is looked for that the work directory does not have, in this order, when a process
	// that mounts it has to run. To are those in which caches that were used are saved at the end of the build, whether it
	// succeeded or not, as far as they have changed.
	From, To []CacheStore
	// TTL is how old what was saved may be; zero is any age.
	TTL time.Duration
	// MaxSize is how many bytes the files of a cache may have together: larger ones are not saved. Nor is anything fetched
	// whose layers have more. Zero is no limit.
	MaxSize int64
}

// sharedCaches share caches during one build. Its keeper is nil when there is no place for them.
type sharedCaches struct{ keeper *cachemount.Keeper }

func (o Options) sharedCaches(p *plan.Plan, store *local.Store, mounts solve.Mounts) sharedCaches {
	c := o.CacheMounts
	if len(c.From)+len(c.To) == 0 {
		return sharedCaches{}
	}
	emit := func(kind progress.Kind) func(string) {
		return func(text string) { o.Progress.Emit(progress.Event{Time: time.Now(), Kind: kind, Text: text}) }
	}
	return sharedCaches{cachemount.New(cachemount.Options{
		From: placesOf(c.From), To: placesOf(c.To), TTL: c.TTL, MaxSize: c.MaxSize,
		Layer:   snapshot.Options{Dir: store.TempDir()},
		Indexes: store,
		Lock: func(ctx context.Context, id string) (string, func() error, error) {
			return mounts.Cache(ctx, id, "shared")
		},
		Platforms: func(id string) []v1.Platform { return cachePlatforms(p, id) },
		Warn:      emit(progress.Warning), Info: emit(progress.Info),
	})}
}

// cachePlatforms are those of the steps that mount a cache, in the order of steps, each as often as there are steps.
func cachePlatforms(p *plan.Plan, id string) (list []v1.Platform) {
	for _, step := range p.Steps {
		op, ok := step.Op.(plan.Run)
		if ok && slices.ContainsFunc(op.Mounts, func(m plan.Mount) bool { return m.Type == plan.MountCache && m.ID == id }) {
			list = append(list, step.Platform)
		}
	}
	return list
}

func placesOf(stores []CacheStore) (places []cachemount.Place) {
	for _, s := range stores {
		places = append(places, cachemount.Place{Name: s.Name, Store: s.Store})
	}
	return places
}

// caches are what the solver opens.
func (s sharedCaches) caches() solve.SharedCaches {
	if s.keeper == nil {
		return nil
	}
	return s.keeper
}

// save saves what has changed, beside whatever else is done until the result is called, which waits for it.
func (s sharedCaches) save(ctx context.Context) (wait func()) {
	if s.keeper == nil {
		return func() {}
	}
	return s.keeper.Save(ctx)
}
