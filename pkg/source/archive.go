package source

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/internal/decompress"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// sniffLen is how many bytes tell an archive: compressed ones by the first, tar by its first header, which may come
// after one that holds a long name.
const sniffLen = 64 << 10

// isArchive reports whether what begins with b is a tar archive, compressed or not. Whatever is compressed passes for
// one; a Dockerfile is not.
func isArchive(b *bufio.Reader) (bool, error) {
	head, err := b.Peek(sniffLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if decompress.Detect(head) != decompress.None {
		return true, nil
	}
	if len(head) >= 512 && len(bytes.TrimLeft(head[:512], "\x00")) == 0 {
		return true, nil // of nothing
	}
	_, err = tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil, nil
}

// openArchive makes the files of an archive the context.
func (c *Context) openArchive(ctx context.Context, b *bufio.Reader, o Options) error {
	l, err := unpack(ctx, b, o.Fetch.TempDir)
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	c.closers = append(c.closers, l.file)
	t, err := rootfs.Of(ctx, []v1.Layer{l}, rootfs.Options{TempDir: o.Fetch.TempDir, Contents: l.contents})
	if err != nil {
		return err
	}
	c.closers = append(c.closers, t)
	c.Tree, c.time = t, fixed(l.newest)
	if o.SubDir != "" {
		sub, err := resolveDir(t, o.SubDir)
		if err != nil {
			return err
		}
		c.Tree = newSubTree(t, sub)
	}
	return nil
}

func fixed(t time.Time) func(context.Context) (time.Time, error) {
	return func(context.Context) (time.Time, error) { return t, nil }
}

// archiveLayer is an archive as a layer, of which package rootfs makes trees. It is never pushed.
type archiveLayer struct {
	file   *os.File // the archive, decompressed; it has no name
	diffID v1.Hash
	index  *rootfs.Index
	newest time.Time // of regular files
}

// unpack decompresses an archive into a file and lists what is in it.
func unpack(ctx context.Context, b *bufio.Reader, temp string) (_ *archiveLayer, err error) {
	head, err := b.Peek(decompress.MagicLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	plain, err := decompress.NewReader(b, decompress.Detect(head))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	file, err := os.CreateTemp(temp, "context-*")
	if err != nil {
		return nil, err
	}
	l := &archiveLayer{file: file}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return nil, err
	}
	sum := sha256.New()
	in := io.TeeReader(&checkedReader{ctx, plain}, io.MultiWriter(file, sum))
	if l.index, err = rootfs.ReadIndex(in, nil); err != nil {
		return nil, err
	}
	l.diffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return l, l.inspect()
}

// checkedReader ends when ctx is done, between reads.
type checkedReader struct {
	ctx context.Context //nolint:containedctx // it lives for one call
	r   io.Reader
}

// Read implements io.Reader.
func (c *checkedReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// inspect looks at all names and times.
func (l *archiveLayer) inspect() error {
	for r := range l.index.All() {
		h := &r.Header
		if strings.HasPrefix(path.Base(h.Name), ".wh.") {
			return fmt.Errorf("%q would delete another file in a layer", h.Name)
		}
		if h.Typeflag == tar.TypeReg && h.ModTime.After(l.newest) {
			l.newest = h.ModTime
		}
	}
	return nil
}

// contents returns those of a file without reading what is before it.
func (l *archiveLayer) contents(_ v1.Hash, rec *rootfs.Record) (io.ReadCloser, error) {
	if rec.Sparse() {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(l.file, rec.Offset, rec.Header.Size)), nil
}

// FileIndex implements rootfs.Indexed.
func (l *archiveLayer) FileIndex() *rootfs.Index { return l.index }

// DiffID implements v1.Layer.
func (l *archiveLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Digest implements v1.Layer.
func (l *archiveLayer) Digest() (v1.Hash, error) { return l.diffID, nil }

// MediaType implements v1.Layer.
func (l *archiveLayer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }

// Size implements v1.Layer.
func (l *archiveLayer) Size() (int64, error) {
	fi, err := l.file.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Compressed implements v1.Layer.
func (l *archiveLayer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

// Uncompressed implements v1.Layer.
func (l *archiveLayer) Uncompressed() (io.ReadCloser, error) {
	n, err := l.Size()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(l.file, 0, n)), nil
}
