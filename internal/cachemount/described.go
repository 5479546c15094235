package cachemount

import (
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// described is a layer of which only the description is here.
type described struct{ r cache.LayerRecord }

var errDescribed = errors.New("the layer's bytes are not here")

func (d described) Digest() (v1.Hash, error)             { return d.r.Digest, nil }
func (d described) DiffID() (v1.Hash, error)             { return d.r.DiffID, nil }
func (d described) Size() (int64, error)                 { return d.r.Size, nil }
func (d described) MediaType() (types.MediaType, error)  { return d.r.MediaType, nil }
func (d described) Compressed() (io.ReadCloser, error)   { return nil, errDescribed }
func (d described) Uncompressed() (io.ReadCloser, error) { return nil, errDescribed }
