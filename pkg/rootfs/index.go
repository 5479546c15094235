package rootfs

import (
	"archive/tar"
	"context"
	"crypto/sha256"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Index is the list of files of one layer: its tar headers in the order of the layer, with
// the place and the digest of each file's contents. It is a few per cent of the layer's size and
// stands in for it wherever contents are not needed.
//
// Whiteouts and opaque markers are records like others, under the names that they have in the
// layer. Global PAX headers, which are no files, have no record.
type Index struct {
	Records []Record
}

// Record is one tar entry of a layer.
type Record struct {
	// Header is the entry as the layer has it, but for the name and the link name of a hard
	// link, which are clean and relative ("." is the root; a name that leads out of the root by
	// ".." is clipped at the root), for Xattrs, which is nil because PAXRecords says the same,
	// and for the PAX records that other fields of the header hold.
	Header tar.Header
	// Offset is where the contents begin in the uncompressed layer, in bytes. The contents of
	// a sparse file are not in one piece: see [Record.Sparse].
	Offset int64
	// Digest is the SHA-256 of the contents of a regular file.
	Digest [sha256.Size]byte
}

// Sparse reports whether the layer leaves out holes of the file, so that its contents cannot be
// cut out at Offset.
func (r *Record) Sparse() bool {
	if r.Header.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range r.Header.PAXRecords {
		if isSparseKey(k) {
			return true
		}
	}
	return false
}

// Indexes keeps indexes by the diff ID of their layer. Implementations are safe for
// concurrent use.
type Indexes interface {
	// Index returns an error that wraps fs.ErrNotExist when the index is not known.
	Index(ctx context.Context, diffID v1.Hash) (*Index, error)
	// PutIndex keeps x, which the caller must not modify afterwards. It is idempotent.
	PutIndex(ctx context.Context, diffID v1.Hash, x *Index) error
}
