package blob

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Index implements rootfs.Indexes. An index that is damaged does not exist: its form has a checksum of its own.
func (s *Store) Index(ctx context.Context, diffID v1.Hash) (*rootfs.Index, error) {
	x, err := s.readIndex(ctx, diffID)
	if err != nil {
		return nil, fmt.Errorf("read index of layer %v in %s: %w", diffID, s.bucket, err)
	}
	return x, nil
}

func (s *Store) readIndex(ctx context.Context, diffID v1.Hash) (*rootfs.Index, error) {
	rc, err := s.get(ctx, indexName(diffID), 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	x, err := rootfs.DecodeIndex(rc)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		s.useless.Store(indexName(diffID), true)
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return x, nil
}

// PutIndex implements rootfs.Indexes.
func (s *Store) PutIndex(ctx context.Context, diffID v1.Hash, x *rootfs.Index) error {
	if err := s.putIndex(ctx, diffID, x); err != nil {
		return fmt.Errorf("write cache %s: %w", s.bucket, err)
	}
	return nil
}

func (s *Store) putIndex(ctx context.Context, diffID v1.Hash, x *rootfs.Index) error {
	var b bytes.Buffer
	if _, err := x.WriteTo(&b); err != nil {
		return err
	}
	return s.putOnce(ctx, indexName(diffID), int64(b.Len()), bytesOf(b.Bytes()))
}
