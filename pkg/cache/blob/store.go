// Package blob keeps results of steps as objects in a bucket: of Amazon S3 and what speaks like it, of Azure Blob Storage, of
// Google Cloud Storage, or in a directory. The packages below it open buckets; a program carries only the client libraries
// of those that it imports.
//
// A bucket has four kinds of objects: steps/KEY is the record of an entry, blobs/sha256-DIGEST a layer as it is
// compressed, indexes/sha256-DIFFID the file index of a layer, and notes/NAME a note. A record is written after what it names, so what can be
// found was whole once.
package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Folders of the objects.
const (
	stepsDir   = "steps/"
	blobsDir   = "blobs/"
	indexesDir = "indexes/"
	notesDir   = "notes/"
)

const (
	// timeout is how long a look-up may take.
	timeout = time.Minute
	// maxRecord bounds a record, which is kept in memory.
	maxRecord = 64 << 10
)

// Store keeps entries in a bucket. It implements cache.Store, rootfs.Indexes, cache.Notes and cache.Keeper.
type Store struct {
	bucket Bucket

	life context.Context //nolint:containedctx // ends with Close; what layers are read under
	end  context.CancelCauseFunc

	stall time.Duration

	// useless has the names of blobs and indexes that could not be read, and are to be written anew although they are there.
	useless sync.Map
}

var (
	_ cache.Store    = (*Store)(nil)
	_ cache.Keeper   = (*Store)(nil)
	_ cache.Notes    = (*Store)(nil)
	_ rootfs.Indexes = (*Store)(nil)
)

// New returns the store in b. The caller closes it when the layers that it returned are no longer read.
func New(b Bucket) *Store {
	s := &Store{bucket: b, stall: stallTimeout}
	s.life, s.end = context.WithCancelCause(context.Background())
	return s
}

// errClosed is why a layer cannot be read any more.
var errClosed = errors.New("cache closed")

// Close ends reads that are under way.
func (s *Store) Close() error {
	s.end(errClosed)
	return nil
}

// String is the bucket, for messages.
func (s *Store) String() string { return s.bucket.String() }

func blobName(digest v1.Hash) string  { return blobsDir + digest.Algorithm + "-" + digest.Hex }
func indexName(diffID v1.Hash) string { return indexesDir + diffID.Algorithm + "-" + diffID.Hex }
func stepName(k cache.Key) string     { return stepsDir + k.String() }

// errSlow is why a look-up was given up.
var errSlow = fmt.Errorf("%w: no answer within %v", cache.ErrUnusable, timeout)

// Get implements cache.Store. An entry that is not what Put writes is missing.
func (s *Store) Get(ctx context.Context, k cache.Key) (cache.Entry, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	rec, err := s.record(ctx, stepName(k))
	var damaged *damagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cache.Entry{}, cache.ErrMiss
	case errors.As(err, &damaged):
		return cache.Entry{}, cache.Miss(err)
	case err != nil:
		return cache.Entry{}, fmt.Errorf("read cache %s: %w", s.bucket, because(ctx, err))
	case rec.Key != k:
		return cache.Entry{}, cache.Miss(fmt.Errorf("entry %v in %s is that of %v", k, s.bucket, rec.Key))
	case rec.Layer == nil:
		return rec.Entry(nil), nil
	}
	name := blobName(rec.Layer.Digest)
	lost := func(error) { s.useless.Store(name, true) }
	return rec.Entry(cache.Found(&layer{store: s, rec: *rec.Layer}, k, lost)), nil
}

// because is err, or why ctx ended.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// damagedError is about an object that is there and is not what it should be.
type damagedError struct{ err error }

func (e *damagedError) Error() string { return e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

func (s *Store) record(ctx context.Context, name string) (cache.Record, error) {
	rc, err := s.get(ctx, name, 0)
	if err != nil {
		return cache.Record{}, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, maxRecord+1))
	if err != nil {
		return cache.Record{}, err
	}
	if len(data) > maxRecord {
		return cache.Record{}, &damagedError{fmt.Errorf("record %q has more than %d bytes", name, maxRecord)}
	}
	rec, err := cache.DecodeRecord(data)
	if err != nil {
		return cache.Record{}, &damagedError{err}
	}
	return rec, nil
}

// Put implements cache.Store. A layer that is in the bucket already is not sent again. The file index of a layer that knows it is
// put, too: the next build may have to copy onto the layer without reading it.
func (s *Store) Put(ctx context.Context, k cache.Key, e cache.Entry) error {
	if err := s.put(ctx, k, e); err != nil {
		return fmt.Errorf("write cache %s: %w", s.bucket, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, k cache.Key, e cache.Entry) error {
	rec, err := cache.NewRecord(k, e)
	if err != nil {
		return err
	}
	if rec.Layer != nil {
		open := func() (io.ReadCloser, error) {
			rc, err := e.Layer.Compressed()
			if err != nil {
				return nil, err
			}
			return snapshot.Verify(rc, rec.Layer.Digest, rec.Layer.Size), nil
		}
		if err := s.putOnce(ctx, blobName(rec.Layer.Digest), rec.Layer.Size, open); err != nil {
			return err
		}
	}
	data, err := rec.Encode()
	if err != nil {
		return err
	}
	if err := s.send(ctx, stepName(k), int64(len(data)), bytesOf(data)); err != nil {
		return err
	}
	if x, ok := e.Layer.(rootfs.Indexed); ok && x.FileIndex() != nil {
		return s.putIndex(ctx, rec.Layer.DiffID, x.FileIndex())
	}
	return nil
}

// putOnce makes an object whose name says what is in it, unless it is there.
func (s *Store) putOnce(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error {
	if _, useless := s.useless.Load(name); !useless {
		o, err := s.bucket.Stat(ctx, name)
		if err == nil && o.Size == size {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := s.send(ctx, name, size, open); err != nil {
		return err
	}
	s.useless.Delete(name)
	return nil
}

func bytesOf(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}
