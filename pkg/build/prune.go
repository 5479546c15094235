package build

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// PruneOptions say what Prune keeps. With KeepFor and KeepBytes zero nothing is kept.
type PruneOptions struct {
	// WorkDir is as in Options.
	WorkDir string
	// KeepFor keeps what was used within this time.
	KeepFor time.Duration
	// KeepBytes keeps the most recently used, up to this many bytes.
	KeepBytes int64
}

// Prune removes what earlier builds left in a work directory. It waits for builds that use it. Layers that
// another user has extracted there stay.
func Prune(ctx context.Context, p PruneOptions) (local.Pruned, error) {
	o, err := Options{WorkDir: p.WorkDir}.withDefaults()
	if err != nil {
		return local.Pruned{}, err
	}
	var k keepers
	for _, d := range o.drivers(func(driver string) string { return filepath.Join(local.LayersDir(o.WorkDir), driver) }, nil) {
		if keeper, ok := d.(sandbox.Keeper); ok {
			k = append(k, keeper)
		}
	}
	return local.Prune(ctx, o.WorkDir, local.PruneOptions{KeepFor: p.KeepFor, KeepBytes: p.KeepBytes, Layers: k, Remove: k.removeCache})
}

// OpenWorkDir opens a work directory, to look at what it keeps; empty is the default one. The caller closes it.
func OpenWorkDir(ctx context.Context, dir string) (*local.Store, error) {
	o, err := Options{WorkDir: dir}.withDefaults()
	if err != nil {
		return nil, err
	}
	return local.Open(ctx, o.WorkDir)
}

// keepers are all drivers that keep layers, as the store sees them.
type keepers []sandbox.Keeper

func (k keepers) Kept(ctx context.Context) ([]local.Item, error) {
	var items []local.Item
	for _, keeper := range k {
		kept, err := keeper.Kept(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range kept {
			items = append(items, local.Item{Used: l.Used, Size: l.Size})
		}
	}
	return items, nil
}

// removeCache removes a cache that processes have mounted, in all forms that drivers leave it in.
func (k keepers) removeCache(ctx context.Context, dir string) error {
	var err error
	for _, keeper := range k {
		if c, ok := keeper.(sandbox.CacheKeeper); ok {
			err = errors.Join(err, c.RemoveCache(ctx, dir))
		}
	}
	return err
}

func (k keepers) Prune(ctx context.Context, then time.Time) error {
	var err error
	for _, keeper := range k {
		err = errors.Join(err, keeper.Prune(ctx, then))
	}
	return err
}
