package rootfs

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"iter"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Index is the list of files of one layer: its tar headers in the order of the layer, with
// the place and the digest of each file's contents. It is a few per cent of the layer's size and
// stands in for it wherever contents are not needed.
//
// Whiteouts and opaque markers are records like others, under the names that they have in the
// layer. Global PAX headers, which are no files, have no record.
//
// The zero value has no records. Once it is shared an index is not modified any more, and is safe for concurrent use.
type Index struct {
	packed packed
	count  int
	end    int64 // where the contents of the last file end
}

// Append adds a copy of the next record of the layer.
func (x *Index) Append(r *Record) {
	x.packed.append(r)
	x.count++
	x.end = r.Offset + r.Header.Size
}

// Len is how many records there are.
func (x *Index) Len() int { return x.count }

// All returns the records in the order of the layer. Each is the caller's own.
func (x *Index) All() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		for _, r := range x.packed.all() {
			own := *r
			if !yield(&own) {
				return
			}
		}
	}
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
