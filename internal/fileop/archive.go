package fileop

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// compression is how an archive is compressed.
type compression uint8

const (
	compressNone compression = iota
	compressGzip
	compressBzip2
	compressXz
	compressZstd
)

// magicLen is how many bytes tell the compression.
const magicLen = 10

// detect tells the compression from the first bytes of a file.
func detect(b []byte) compression {
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b, 0x08}):
		return compressGzip
	case bytes.HasPrefix(b, []byte("BZh")):
		return compressBzip2
	case bytes.HasPrefix(b, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return compressXz
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return compressZstd
	// A skippable frame may come before the first zstd frame (RFC 8878, 3.1.2).
	case len(b) >= 8 && binary.LittleEndian.Uint32(b)&0xfffffff0 == 0x184d2a50:
		return compressZstd
	}
	return compressNone
}

// maxWindow bounds the memory that the archive makes a decompressor use, in bytes. It is what
// zstd's own command takes without being asked for more.
const maxWindow = 128 << 20

// decompress returns the decompressed r.
func decompress(r io.Reader, c compression) (io.ReadCloser, error) {
	switch c {
	case compressGzip:
		return gzip.NewReader(r)
	case compressBzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case compressXz:
		x, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case compressZstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case compressNone:
	}
	return io.NopCloser(r), nil
}

// sniff reports whether a file is an archive that ADD unpacks: a tar file, compressed or not, with a first entry
// that can be read. Anything else is no error, unless the file itself cannot be read.
func sniff(open func() (io.ReadCloser, error)) (bool, compression, error) {
	f, err := open()
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = f.Close() }()
	src := &errReader{r: f}
	b := bufio.NewReader(src)
	head, err := b.Peek(magicLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, 0, err
	}
	c := detect(head)
	r, err := decompress(b, c)
	if err != nil {
		return false, 0, src.err
	}
	defer func() { _ = r.Close() }()
	if _, err := tar.NewReader(r).Next(); err != nil {
		return false, 0, src.err
	}
	return true, c, nil
}

// errReader remembers the error of the file itself, apart from those of what is in it.
type errReader struct {
	r   io.Reader
	err error
}

func (e *errReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = fmt.Errorf("read archive: %w", err)
	}
	return n, err
}
