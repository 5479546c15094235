package sandbox

import (
	"context"
	"time"
)

// Keeper is a Driver that keeps extracted layers between builds.
type Keeper interface {
	Driver
	// Kept lists what is kept.
	Kept(ctx context.Context) ([]Kept, error)
	// Prune removes what was last used before then, and what killed builds left behind. While any root is open,
	// in whatever process, it does nothing.
	Prune(ctx context.Context, then time.Time) error
}

// Kept is one extracted layer.
type Kept struct {
	Used time.Time
	// Size is in bytes on disk, of those files that the builder may see without entering another namespace.
	Size int64
}
