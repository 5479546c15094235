package rootfs

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Limits on what a layer may ask of its reader. Each is far beyond what real images have.
const (
	// maxIndexBytes bounds what an index takes in memory, since a compressed layer of a
	// megabyte can hold headers for a thousand times that.
	maxIndexBytes = 1 << 30
	// maxSparseBytes bounds the sum of the sizes of a layer's sparse files: a header of a
	// few bytes can claim exabytes of zeros, which would all have to be hashed.
	maxSparseBytes = 16 << 30
	// readSize is the buffer under archive/tar, which reads in blocks of 512 bytes.
	readSize = 256 << 10
)

// errTooLarge is for layers beyond the limits.
var errTooLarge = errors.New("layer is too large to index")

// ReadIndex reads an uncompressed layer to its end and returns its index. When visit is not
// nil it is called for each entry, in order, with the record (whose Digest is not known yet) and the
// contents; it may read them or leave them. An error from visit ends the reading. The record
// and the contents are valid until visit returns.
//
// The bytes of r are read once. Errors are those of r, of archive/tar, and of visit.
func ReadIndex(r io.Reader, visit func(rec *Record, body io.Reader) error) (*Index, error) {
	in := &countingReader{r: bufio.NewReaderSize(r, readSize)}
	x := &indexer{in: in, tar: tar.NewReader(in), visit: visit, body: body{hash: sha256.New()}}
	for {
		more, err := x.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	// What follows the end of the archive is part of the layer and its diff ID.
	if _, err := io.CopyBuffer(io.Discard, in, x.buf()); err != nil {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	return &x.index, nil
}

// indexer is the state of ReadIndex.
type indexer struct {
	in      *countingReader
	tar     *tar.Reader
	visit   func(*Record, io.Reader) error
	index   Index
	body    body
	memory  int64 // estimate of what index takes
	sparse  int64 // sum of the sizes of sparse files
	scratch []byte
}

// next reads one entry, and reports whether there was one.
func (x *indexer) next() (bool, error) {
	hdr, err := x.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return false, nil
	case errors.Is(err, tar.ErrInsecurePath) && hdr != nil:
		// Names are clipped below.
	case err != nil:
		return false, fmt.Errorf("read layer: %w", err)
	}
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return true, nil
	}
	rec := Record{Header: *hdr, Offset: x.in.n}
	tidy(&rec.Header)
	if err := x.account(&rec); err != nil {
		return false, fmt.Errorf("read layer: %q: %w", rec.Header.Name, err)
	}
	if err := x.contents(&rec); err != nil {
		return false, err
	}
	x.index.Append(&rec)
	return true, nil
}

// contents shows the entry to visit and hashes the contents.
func (x *indexer) contents(rec *Record) error {
	x.body.reset(x.tar)
	if x.visit != nil {
		if err := x.visit(rec, &x.body); err != nil {
			return err
		}
	}
	if !isRegular(rec.Header.Typeflag) {
		return nil
	}
	if _, err := io.CopyBuffer(io.Discard, &x.body, x.buf()); err != nil {
		return fmt.Errorf("read layer: %q: %w", rec.Header.Name, err)
	}
	x.body.hash.Sum(rec.Digest[:0])
	return nil
}

// account holds rec against the limits.
func (x *indexer) account(rec *Record) error {
	x.memory += rec.memory()
	if x.memory > maxIndexBytes {
		return errTooLarge
	}
	if rec.Sparse() {
		if rec.Header.Size > maxSparseBytes-x.sparse {
			return fmt.Errorf("sparse file of %d bytes: %w", rec.Header.Size, errTooLarge)
		}
		x.sparse += rec.Header.Size
	}
	return nil
}

func (x *indexer) buf() []byte {
	if x.scratch == nil {
		x.scratch = make([]byte, readSize)
	}
	return x.scratch
}

// tidy brings a header as it was read into the form of [Record.Header].
func tidy(h *tar.Header) {
	h.Name = Clean(h.Name)
	if h.Typeflag == tar.TypeLink {
		h.Linkname = Clean(h.Linkname)
	}
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		h.Size = 0 // some writers repeat the size of a link's target; there are no contents
	}
	h.Xattrs = nil //nolint:staticcheck // it repeats PAXRecords
	for k := range h.PAXRecords {
		if isHeaderKey(k) {
			delete(h.PAXRecords, k)
		}
	}
	if len(h.PAXRecords) == 0 {
		h.PAXRecords = nil
	}
}

// isHeaderKey reports whether archive/tar puts the PAX record into another field of the header.
func isHeaderKey(k string) bool {
	switch k {
	case "path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime":
		return true
	}
	return false
}

// isSparseKey reports whether a PAX record of that name says that the file is sparse.
func isSparseKey(k string) bool { return strings.HasPrefix(k, "GNU.sparse.") }

// memory estimates what r takes in memory, in bytes, as long as a tree is made of it.
func (r *Record) memory() int64 {
	n := 256 + len(r.Header.Name) + len(r.Header.Linkname) + len(r.Header.Uname) + len(r.Header.Gname)
	for k, v := range r.Header.PAXRecords {
		n += 64 + len(k) + len(v)
	}
	return int64(n)
}

// countingReader knows how much was read from it. It hides that r may seek, so that archive/tar
// reads everything.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// body is the contents of one entry, hashed as they are read.
type body struct {
	r    io.Reader
	hash hash.Hash
}

func (b *body) reset(r io.Reader) {
	b.r = r
	b.hash.Reset()
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.hash.Write(p[:n])
	return n, err
}
