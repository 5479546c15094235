package rootfs

import (
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Options say where [Of] finds what it needs.
type Options struct {
	// Indexes is asked for an index first and given those that had to be read. Nil: indexes
	// are read from the layers and forgotten.
	Indexes Indexes
	// TempDir is where contents are put when files are not read in the order of their layer.
	// Empty: os.TempDir.
	TempDir string
}

// Of returns the tree that layers make, the lowest layer first. Whiteouts and opaque
// directories hide what is below them (image-spec, layer.md).
func Of(ctx context.Context, layers []v1.Layer, o Options) (*LayerTree, error) {
	return nil, errors.ErrUnsupported
}

// LayerTree is the [Tree] of a stack of layers.
type LayerTree struct {
	Tree
}

// Close removes temporary files. Files opened from the tree must be closed before.
func (t *LayerTree) Close() error { return nil }
