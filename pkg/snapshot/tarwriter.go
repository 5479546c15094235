package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot/members"
)

// Names that say that something is gone (image-spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// blockSize is the unit of a tar.
const blockSize = 512

// tarWriter writes changes as a tar and keeps the index of it. Headers are made by archive/tar; contents
// go from the files straight into the buffers of the compressor.
type tarWriter struct {
	ctx     context.Context //nolint:containedctx // the writer lives for one call
	out     *members.Writer
	clamp   time.Time
	clamped bool // clamp changed a time
	offset  int64
	index   *rootfs.Index
	checker checker
	header  bytes.Buffer
	hash    hash.Hash
}

func newTarWriter(ctx context.Context, out *members.Writer, clamp time.Time) *tarWriter {
	return &tarWriter{ctx: ctx, out: out, clamp: clamp, index: &rootfs.Index{}, hash: sha256.New(), checker: newChecker()}
}

// writeAll writes changes and the end of the archive.
func (t *tarWriter) writeAll(changes Changes) error {
	for c, err := range changes {
		if err == nil && t.ctx.Err() != nil {
			err = context.Cause(t.ctx)
		}
		if err == nil {
			err = t.change(c)
		}
		if err != nil {
			return err
		}
	}
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	var end [2 * blockSize]byte
	return t.write(end[:])
}

func (t *tarWriter) change(c Change) error {
	if c.Header == nil {
		return errNoHeader
	}
	if err := t.checker.check(c); err != nil {
		return fmt.Errorf("%q: %w", c.Header.Name, err)
	}
	name := c.Header.Name
	var err error
	switch c.Kind {
	case Delete:
		err = t.entry(whiteout(path.Join(path.Dir(name), whiteoutPrefix+path.Base(name))), nil)
	case Opaque:
		if err = t.entry(t.headerOf(c.Header), nil); err == nil {
			err = t.entry(whiteout(path.Join(name, opaqueMarker)), nil)
		}
	case Add:
		err = t.entry(t.headerOf(c.Header), c.Open)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	t.checker.added(c)
	return nil
}

// whiteout returns the header of a marker: an empty file, with nothing in it that would differ
// from build to build.
func whiteout(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

// headerOf returns what a layer says of a file: no access time, no names of owners, and of
// the PAX records the extended attributes alone.
func (t *tarWriter) headerOf(h *tar.Header) tar.Header {
	out := tar.Header{
		Typeflag: h.Typeflag,
		Name:     h.Name,
		Mode:     h.Mode & 0o7777,
		Uid:      h.Uid,
		Gid:      h.Gid,
		ModTime:  h.ModTime,
		Format:   tar.FormatPAX, // the only one with fractions of seconds
	}
	if out.ModTime.IsZero() {
		out.ModTime = time.Unix(0, 0)
	}
	if !t.clamp.IsZero() && out.ModTime.After(t.clamp) {
		out.ModTime, t.clamped = t.clamp, true
	}
	switch h.Typeflag {
	case tar.TypeReg:
		out.Size = h.Size
	case tar.TypeLink, tar.TypeSymlink:
		out.Linkname = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		out.Devmajor, out.Devminor = h.Devmajor, h.Devminor
	}
	for k, v := range h.PAXRecords {
		if !strings.HasPrefix(k, rootfs.XattrPrefix) {
			continue
		}
		if out.PAXRecords == nil {
			out.PAXRecords = make(map[string]string, len(h.PAXRecords))
		}
		out.PAXRecords[k] = v
	}
	return out
}

// entry writes one entry of the tar and its record.
func (t *tarWriter) entry(h tar.Header, open func() (io.ReadCloser, error)) error {
	if err := t.writeHeader(h); err != nil {
		return err
	}
	rec := rootfs.Record{Header: h, Offset: t.offset}
	if h.Typeflag == tar.TypeReg {
		if err := t.contents(&rec, open); err != nil {
			return err
		}
	}
	t.index.Append(&rec)
	return nil
}

func (t *tarWriter) writeHeader(h tar.Header) error {
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	t.header.Reset()
	// A writer of its own for each header, because it would expect the contents after it.
	if err := tar.NewWriter(&t.header).WriteHeader(&h); err != nil {
		return err
	}
	return t.write(t.header.Bytes())
}

// contents writes the contents of a regular file, hashed and padded.
func (t *tarWriter) contents(rec *rootfs.Record, open func() (io.ReadCloser, error)) error {
	t.hash.Reset()
	if rec.Header.Size > 0 {
		if err := t.copy(rec.Header.Size, open); err != nil {
			return err
		}
	}
	t.hash.Sum(rec.Digest[:0])
	var zeros [blockSize]byte
	return t.write(zeros[:-t.offset&(blockSize-1)])
}

func (t *tarWriter) copy(size int64, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close() // it was read only
	n, err := t.out.ReadFrom(&contents{t: t, r: r, left: size})
	t.offset += n
	return err
}

func (t *tarWriter) write(p []byte) error {
	n, err := t.out.Write(p)
	t.offset += int64(n)
	return err
}

// contents reads and hashes exactly as many bytes as were promised.
type contents struct {
	t    *tarWriter
	r    io.Reader
	left int64
}

func (c *contents) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if c.t.ctx.Err() != nil {
		return 0, context.Cause(c.t.ctx)
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.r.Read(p)
	c.t.hash.Write(p[:n])
	c.left -= int64(n)
	switch {
	case c.left == 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, fmt.Errorf("file became shorter: %d bytes are missing: %w", c.left, io.ErrUnexpectedEOF)
	}
	return n, err
}
