package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// indexTag is the tag of the file index of a layer.
func indexTag(diffID v1.Hash) string { return indexPrefix + diffID.Hex }

const indexPrefix = "index-"

// indexFile is the name of the only file in the layer of an index.
const indexFile = "index"

// maxIndex bounds an index as it is encoded. A layer of a million files has some 40 MB.
const maxIndex = 256 << 20

// Index implements rootfs.Indexes. An index that is damaged, or is that of another layer, does not exist.
func (s *Store) Index(ctx context.Context, diffID v1.Hash) (*rootfs.Index, error) {
	m, err := s.manifest(patience(ctx), indexTag(diffID))
	if err != nil {
		if err = readError(err); errors.Is(err, cache.ErrMiss) {
			err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		return nil, fmt.Errorf("get index of layer %v: %w", diffID, err)
	}
	im, err := parseIndex(m)
	if err == nil && im.of != diffID {
		err = fmt.Errorf("it is that of %v", im.of)
	}
	var x *rootfs.Index
	if err == nil {
		x, err = s.readIndex(ctx, indexTag(diffID), im.layer)
	}
	if err != nil {
		s.useless.Store(diffID, true)
		s.indexed.Delete(diffID)
		return nil, fmt.Errorf("get index of layer %v: %w: %w", diffID, fs.ErrNotExist, err)
	}
	return x, nil
}

// indexManifest is what the manifest of an index says.
type indexManifest struct {
	of      v1.Hash // the layer's diff ID
	created time.Time
	layer   v1.Descriptor
}

func parseIndex(m v1.Descriptor) (indexManifest, error) {
	f, err := parseFile(m, indexAnnotation, maxIndex)
	im := indexManifest{created: f.created, layer: f.layer}
	if err != nil {
		return im, err
	}
	if im.of, err = v1.NewHash(f.of); err != nil {
		return im, fmt.Errorf("read annotation %s: %w", indexAnnotation, err)
	}
	return im, nil
}

func (s *Store) readIndex(ctx context.Context, tag string, desc v1.Descriptor) (x *rootfs.Index, err error) {
	err = s.readFile(ctx, tag, indexFile, desc, func(r io.Reader) (err error) {
		x, err = rootfs.DecodeIndex(r)
		return err
	})
	return x, err
}

// PutIndex implements rootfs.Indexes. An index that is there already stays, unless it was found to be of no use.
func (s *Store) PutIndex(ctx context.Context, diffID v1.Hash, x *rootfs.Index) error {
	if _, known := s.indexed.Load(diffID); known {
		return nil
	}
	ctx = patience(ctx)
	if _, useless := s.useless.Load(diffID); !useless {
		m, err := s.client.Manifest(ctx, s.tag(indexTag(diffID)), registry.Push)
		if im, perr := parseIndex(m); err == nil && perr == nil && im.of == diffID {
			s.indexed.Store(diffID, true)
			return nil
		}
	}
	l, err := indexLayer(x)
	if err != nil {
		return fmt.Errorf("put index of layer %v: %w", diffID, err)
	}
	img, err := ordinary(l, time.Now(), "index of "+diffID.String(), map[string]string{indexAnnotation: diffID.String()})
	if err != nil {
		return fmt.Errorf("put index of layer %v: %w", diffID, err)
	}
	if err := s.push(ctx, indexTag(diffID), img, l); err != nil {
		return writeError(err)
	}
	s.useless.Delete(diffID)
	s.indexed.Store(diffID, true)
	return nil
}

// indexLayer is an archive with the index, which is compressed already.
func indexLayer(x *rootfs.Index) (v1.Layer, error) {
	var body bytes.Buffer
	if _, err := x.WriteTo(&body); err != nil {
		return nil, err
	}
	return fileLayer(indexFile, body.Bytes())
}
