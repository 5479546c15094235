package sandbox

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// CacheSharer is a Driver that makes layers of the caches that CacheSource names, and caches of such layers.
//
// In a layer the cache is the directory CacheLayerRoot, which says its owner and mode; other files are left out.
//
// A cache remembers, with a note, in which state its layers were last those that somebody else has, so that what changed
// since then can be told without reading what did not. No step can change files unnoticed.
type CacheSharer interface {
	CacheKeeper
	// CacheOwners reports whether the files of caches have the owners that processes gave them. Otherwise all belong to
	// root, and their layers are of use only where that is so.
	CacheOwners() (bool, error)
	// FillCache prepares the cache in dir with the files of layers, the lowest first, unless it is prepared, and remembers
	// note. After an error the cache is as it was. Contents that are not those of a layer's diff ID are an error.
	FillCache(ctx context.Context, dir string, layers []v1.Layer, note []byte) error
	// CacheNote returns what was remembered last, and nil when nothing was.
	CacheNote(dir string) ([]byte, error)
	// ReadCache makes a record of the prepared cache in dir. What changes in it meanwhile is an error of the stream, or is
	// seen by the next ReadCache. The caller closes the result.
	ReadCache(ctx context.Context, dir string, o ReadCacheOptions) (CacheReading, error)
}

// CacheLayerRoot is the directory that a cache is in its layers.
const CacheLayerRoot = "data"

// ReadCacheOptions say what of a cache is wanted.
type ReadCacheOptions struct {
	// Layers, the lowest first, are those of the state that is remembered: the stream has what is to be put on top of
	// them. The driver's indexes are asked for them; a layer's bytes are not read. Where a file has new times, but the contents,
	// owner, mode and attributes that the layers say, it has not changed. Nil asks for all files.
	Layers []v1.Layer
	// Merge is how many of Layers, from the uppermost down, the stream takes the place of: it is to be put on top of the others,
	// of which there is at least one. What has to be looked up for that and is not known is an error of ReadCache.
	Merge int
	// MaxSize is how many bytes the files may have together; larger caches are a *CacheSizeError. Zero is no limit.
	MaxSize int64
}

// CacheReading is the state of a cache at one time.
type CacheReading interface {
	// Changes is consumed once. A file that changes while it is being read, or goes away, is an error.
	Changes() snapshot.Changes
	// Remember lets the cache remember, with note, the state that was read, all of which has to have been consumed.
	Remember(note []byte) error
	// Close forgets the state unless it is remembered.
	Close() error
}

// CacheSizeError says that a cache is too large.
type CacheSizeError struct {
	Size, Max int64 // in bytes
}

func (e *CacheSizeError) Error() string {
	return fmt.Sprintf("the cache has %d bytes, which is more than %d", e.Size, e.Max)
}
