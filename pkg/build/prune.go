package build

import (
	"context"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache/local"
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

// Prune removes what earlier builds left in a work directory. It waits for builds that use it.
func Prune(ctx context.Context, p PruneOptions) (local.Pruned, error) {
	o, err := Options{WorkDir: p.WorkDir}.withDefaults()
	if err != nil {
		return local.Pruned{}, err
	}
	return local.Prune(ctx, o.WorkDir, local.PruneOptions{KeepFor: p.KeepFor, KeepBytes: p.KeepBytes})
}
