package blob

import (
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// layer is a layer in a bucket. It is known without being read.
type layer struct {
	store *Store
	rec   cache.LayerRecord
}

func (l *layer) Digest() (v1.Hash, error)            { return l.rec.Digest, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.rec.DiffID, nil }
func (l *layer) Size() (int64, error)                { return l.rec.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.rec.MediaType, nil }
func (l *layer) Descriptor() (*v1.Descriptor, error) {
	d := l.rec.Descriptor()
	return &d, nil
}

// Compressed opens the object. Its bytes are verified while they are read, and a connection that breaks is taken up again.
func (l *layer) Compressed() (io.ReadCloser, error) {
	rc, err := l.store.resuming(blobName(l.rec.Digest), l.rec.Size)
	if err != nil {
		return nil, err
	}
	return snapshot.Verify(rc, l.rec.Digest, l.rec.Size), nil
}

func (l *layer) Uncompressed() (io.ReadCloser, error) {
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	r, err := snapshot.Decompress(rc)
	if err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return r, nil
}
