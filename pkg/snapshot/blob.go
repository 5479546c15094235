package snapshot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Blob is a layer that lies in a file. It implements v1.Layer, and is safe for concurrent use.
type Blob struct {
	// Path is where the compressed bytes were put: by Write, in Options.Dir. Whoever called Write
	// owns the file and may move it with Rename, or by itself, telling the layer with Moved.
	Path string
	// Index lists the layer's files, when it is known: Write makes it while writing.
	Index *rootfs.Index
	// Clamped says that Options.Clamp changed a time, so that the files which the layer was made of are not quite those that it
	// has.
	Clamped bool

	desc   v1.Descriptor
	diffID v1.Hash
	mu     sync.RWMutex // held while the file is opened or moved
	path   string       // where the file is now
}

var _ rootfs.Indexed = (*Blob)(nil)

// OpenBlob returns the layer whose compressed bytes are in the file path. The file is opened when
// its bytes are asked for, and not checked against desc: see [Verify].
func OpenBlob(path string, desc v1.Descriptor, diffID v1.Hash) *Blob {
	return newBlob(path, desc, diffID)
}

func newBlob(path string, desc v1.Descriptor, diffID v1.Hash) *Blob {
	return &Blob{Path: path, path: path, desc: desc, diffID: diffID}
}

// Digest is the digest of the compressed bytes.
func (b *Blob) Digest() (v1.Hash, error) { return b.desc.Digest, nil }

// DiffID is the digest of the uncompressed bytes.
func (b *Blob) DiffID() (v1.Hash, error) { return b.diffID, nil }

// Size is the length of the compressed bytes.
func (b *Blob) Size() (int64, error) { return b.desc.Size, nil }

// MediaType says what the bytes are.
func (b *Blob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }

// Descriptor is digest, size and media type in one.
func (b *Blob) Descriptor() (*v1.Descriptor, error) {
	d := b.desc
	return &d, nil
}

// FileIndex is Index, for rootfs.Of.
func (b *Blob) FileIndex() *rootfs.Index { return b.Index }

// Moved says that the file is at path now.
func (b *Blob) Moved(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.path = path
}

// Rename moves the file to path, on the same filesystem. Unlike a rename followed by Moved it leaves no moment
// in which the layer's bytes cannot be opened.
func (b *Blob) Rename(path string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.Rename(b.path, path); err != nil {
		return err
	}
	b.path = path
	return nil
}

// Location is the path of the file now.
func (b *Blob) Location() string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.path
}

func (b *Blob) open() (*os.File, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return os.Open(b.path)
}

// Compressed opens the file. What it returns is an *os.File.
func (b *Blob) Compressed() (io.ReadCloser, error) { return b.open() }

// Uncompressed decompresses the file, by what its first bytes say that it is.
func (b *Blob) Uncompressed() (io.ReadCloser, error) {
	f, err := b.open()
	if err != nil {
		return nil, err
	}
	r, err := Decompress(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("decompress layer %v: %w", b.diffID, err)
	}
	return r, nil
}

// readSize is the buffer between a file and a decompressor.
const readSize = 128 << 10

// Decompress returns the decompressed bytes of r, which it takes over unless there is an error.
func Decompress(r io.ReadCloser) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, readSize)
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		return &readCloser{z, func() error { return errors.Join(z.Close(), r.Close()) }}, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
		if err != nil {
			return nil, err
		}
		return &readCloser{z, func() error { z.Close(); return r.Close() }}, nil
	}
	return &readCloser{in, r.Close}, nil
}

// maxWindow bounds the memory that a zstd frame may ask for: what the format asks every reader
// to support is 8 MiB; some tools go to 128.
const maxWindow = 128 << 20

// readCloser reads from one thing and closes more.
type readCloser struct {
	io.Reader
	close func() error
}

func (r *readCloser) Close() error { return r.close() }
