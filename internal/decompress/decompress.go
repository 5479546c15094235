// Package decompress reads what is compressed in one of the ways in which archives are: it tells which from the
// first bytes.
package decompress

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Format is how something is compressed.
type Format uint8

// Formats. None is that of everything that is in no other.
const (
	None Format = iota
	Gzip
	Bzip2
	Xz
	Zstd
)

// MagicLen is how many bytes tell the format.
const MagicLen = 10

// Detect tells the format from the first bytes of a file.
func Detect(b []byte) Format {
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b, 0x08}):
		return Gzip
	case bytes.HasPrefix(b, []byte("BZh")):
		return Bzip2
	case bytes.HasPrefix(b, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return Xz
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	// A skippable frame may come before the first zstd frame (RFC 8878, 3.1.2).
	case len(b) >= 8 && binary.LittleEndian.Uint32(b)&0xfffffff0 == 0x184d2a50:
		return Zstd
	}
	return None
}

// maxWindow bounds the memory that the archive makes a decompressor use, in bytes. It is what
// zstd's own command takes without being asked for more.
const maxWindow = 128 << 20

// NewReader returns the decompressed r. The caller closes it, which does not close r.
func NewReader(r io.Reader, f Format) (io.ReadCloser, error) {
	switch f {
	case Gzip:
		return gzip.NewReader(r)
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case Xz:
		x, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case None:
	}
	return io.NopCloser(r), nil
}
