package sandbox

import (
	"context"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
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

// Reader is a Driver that gives the contents of files from where it has extracted their layer, which is cheaper
// than decompressing the layer.
type Reader interface {
	Driver
	// Contents gives exactly the bytes that the record says, or an error that wraps fs.ErrNotExist if they are not at
	// hand. It may be called at any time, by several goroutines. The caller closes what it returns.
	Contents(diffID v1.Hash, rec *rootfs.Record) (io.ReadCloser, error)
}

// CacheKeeper is a Driver that tells about the caches that CacheSource names.
type CacheKeeper interface {
	Driver
	// CachePrepared reports whether a process of this user would find the cache in dir prepared, so that it needs no
	// seed.
	CachePrepared(dir string) (bool, error)
	// RemoveCache removes what this user has in dir, of which parts may belong to other ids, whatever driver made it.
	// No process may be using it. When it does not come to its end the cache is one that is not prepared.
	RemoveCache(ctx context.Context, dir string) error
}
