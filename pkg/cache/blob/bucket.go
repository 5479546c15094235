package blob

import (
	"context"
	"io"
	"iter"
	"time"
)

// Bucket is a place for objects with names, as object stores have it. Names are slash-separated paths of lower-case letters,
// digits and dashes below the bucket's own prefix. Implementations are safe for concurrent use, by other processes too,
// and retry what may pass.
//
// An error about an object that is not there wraps fs.ErrNotExist; one that would be the same for every object wraps
// cache.ErrUnusable.
type Bucket interface {
	// Get opens an object from the byte at off on, which the object has to have unless off is 0. The caller closes it. Bytes may
	// be wrong or end early: they are checked by whoever reads them.
	Get(ctx context.Context, name string, off int64) (io.ReadCloser, error)
	// Put makes an object of size bytes, replacing the one that had the name. The object is there whole or not at all. open
	// is called once for each attempt; memory does not grow with the size.
	Put(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error
	// Stat describes an object without its bytes.
	Stat(ctx context.Context, name string) (Object, error)
	// List gives all objects whose name begins with prefix, in no particular order, up to the first error.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Delete removes an object. One that is not there is no error.
	Delete(ctx context.Context, name string) error
	// String names the bucket, for messages. It has no secrets in it.
	String() string
}

// Object describes an object of a bucket.
type Object struct {
	Name     string
	Size     int64
	Modified time.Time
}
