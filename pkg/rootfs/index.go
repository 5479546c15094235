package rootfs

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Index is the list of files of one layer: its tar headers in the order of the layer, with
// the place and the digest of each file's contents. It is a few per cent of the layer's size and
// stands in for it wherever contents are not needed.
type Index struct {
	Records []Record
}

// Record is one tar entry of a layer.
type Record struct {
	// Header is the entry as the layer has it, but for the name and the link name of a hard
	// link, which are clean and relative ("." is the root). A name that leads out of the root by
	// ".." is clipped at the root.
	Header tar.Header
	// Offset is where the contents begin in the uncompressed layer, in bytes.
	Offset int64
	// Digest is the SHA-256 of the contents of a regular file.
	Digest [sha256.Size]byte
}

// Indexes keeps indexes by the diff ID of their layer. Implementations are safe for
// concurrent use.
type Indexes interface {
	// Index returns an error that wraps fs.ErrNotExist when the index is not known.
	Index(ctx context.Context, diffID v1.Hash) (*Index, error)
	// PutIndex keeps x, which the caller must not modify afterwards. It is idempotent.
	PutIndex(ctx context.Context, diffID v1.Hash, x *Index) error
}

// ReadIndex reads an uncompressed layer to its end and returns its index. When visit is not
// nil it is called for each entry, in order, with the record (whose Digest is not known yet) and the
// contents; it may read them or leave them. An error from visit ends the reading.
//
// The bytes of r are read once. Errors are those of r, of archive/tar, and of visit.
func ReadIndex(r io.Reader, visit func(rec *Record, body io.Reader) error) (*Index, error) {
	return nil, errors.ErrUnsupported
}

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
// directories hide what is below them (image-spec, layer.md). An implicit parent that is a
// link in the layers below is followed, as container engines do.
//
// Indexes are read on first use; a layer's bytes are read only when its index is not known or a
// file of it is opened. Close the tree to remove what it put in TempDir.
func Of(ctx context.Context, layers []v1.Layer, o Options) (*LayerTree, error) {
	return nil, errors.ErrUnsupported
}

// LayerTree is the [Tree] of a stack of layers.
type LayerTree struct {
	Tree
}

// Close removes temporary files. Files opened from the tree must be closed before.
func (t *LayerTree) Close() error { return nil }
