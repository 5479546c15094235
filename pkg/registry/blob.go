package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// blob is a blob in a repository, by descriptor. It implements partial.CompressedLayer.
type blob struct {
	client *Client
	s      *session
	desc   v1.Descriptor
	diffID func() (v1.Hash, error)
}

func (b *blob) Digest() (v1.Hash, error)            { return b.desc.Digest, nil }
func (b *blob) Size() (int64, error)                { return b.desc.Size, nil }
func (b *blob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }

// DiffID reads the image's config rather than the layer (partial.WithDiffID).
func (b *blob) DiffID() (v1.Hash, error) { return b.diffID() }

// Descriptor keeps what a manifest says of a layer besides digest and size, such as its annotations.
func (b *blob) Descriptor() (*v1.Descriptor, error) {
	d := b.desc
	return &d, nil
}

// Exists asks the registry (partial.Exists).
func (b *blob) Exists() (bool, error) {
	return b.s.hasBlob(b.client.life, b.desc.Digest)
}

// Compressed opens the blob, which tells whether it is there. The reader verifies size and digest, and goes on
// after a broken connection where it was.
func (b *blob) Compressed() (io.ReadCloser, error) { return b.open(b.client.life) }

// open is Compressed in the lifetime of ctx.
func (b *blob) open(ctx context.Context) (io.ReadCloser, error) {
	h, err := v1.Hasher(b.desc.Digest.Algorithm)
	if err != nil {
		return nil, err
	}
	if b.desc.Size < 0 {
		return nil, fmt.Errorf("blob %s: size %d", b.desc.Digest, b.desc.Size)
	}
	r := &blobReader{blob: b, hash: h, retries: b.client.backoff()}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	if b.desc.Data != nil {
		r.body = io.NopCloser(bytes.NewReader(b.desc.Data))
		return r, nil
	}
	if err := r.open(); err != nil {
		r.cancel(nil)
		return nil, r.fail(err)
	}
	return r, nil
}

// errReaderClosed is what a read after Close gives.
var errReaderClosed = errors.New("read of a closed blob")

// steady is how many bytes an attempt has to bring before the retries count anew: a connection that
// breaks every now and then is good for a large blob, one that brings a byte at a time is not.
const steady = 1 << 20

// progressStep is how many bytes move between two calls of Options.Progress.
const progressStep = 256 << 10

// blobReader reads a blob once from its beginning to its end, over as many connections as it takes.
type blobReader struct {
	blob   *blob
	ctx    context.Context //nolint:containedctx // io.Reader has none
	cancel context.CancelCauseFunc

	mu      sync.Mutex    // a request that has this as its body closes it while it reads
	body    io.ReadCloser // nil: to be opened at off
	off     int64
	since   int64 // off when the retries began to count
	told    int64
	hash    hash.Hash
	retries backoff
	err     error
}

// Read implements io.Reader. The last bytes come with an error when the digest is not that of the descriptor.
func (r *blobReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := r.blob.desc.Size
	for {
		if r.err != nil {
			return 0, r.err
		}
		if size == 0 {
			r.verify()
			continue
		}
		if r.body == nil {
			if err := r.reopen(); err != nil {
				r.err = r.fail(err)
				continue
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), size-r.off)])
		r.took(p[:n])
		if r.off == size {
			_ = r.body.Close()
			r.body = nil
			if r.verify(); r.err != io.EOF { //nolint:errorlint // verify sets it bare
				return n, r.err
			}
			return n, nil
		}
		if err != nil {
			r.broke(err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
}

func (r *blobReader) took(p []byte) {
	r.hash.Write(p)
	r.off += int64(len(p))
	if r.off-r.since >= steady {
		r.since = r.off
		r.retries = r.blob.client.backoff()
	}
	if r.off-r.told >= progressStep || r.off == r.blob.desc.Size {
		r.told = r.off
		r.blob.client.moved(r.blob.s, r.blob.desc, r.off, Pull)
	}
}

// verify ends the reader: with io.EOF when the bytes were those that were asked for.
func (r *blobReader) verify() {
	got := v1.Hash{Algorithm: r.blob.desc.Digest.Algorithm, Hex: fmt.Sprintf("%x", r.hash.Sum(nil))}
	if got != r.blob.desc.Digest {
		r.err = r.fail(fmt.Errorf("the registry sent bytes with digest %s", got))
		return
	}
	r.err = io.EOF
}

// broke gives up the connection. What it leaves undone, reopen takes up.
func (r *blobReader) broke(err error) {
	_ = r.body.Close()
	r.body = nil
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if r.ctx.Err() != nil {
		err = context.Cause(r.ctx)
	}
	if !brokenConnection(err) {
		r.err = r.fail(err)
		return
	}
	wait, again := r.retries.next(0)
	if !again {
		r.err = r.fail(fmt.Errorf("after %d bytes: %w", r.off, err))
		return
	}
	if err := sleep(r.ctx, wait); err != nil {
		r.err = r.fail(err)
	}
}

// reopen opens the rest of the blob, as often as the retries allow: the registry may be coming back.
func (r *blobReader) reopen() error {
	for {
		err := r.open()
		if err == nil || r.ctx.Err() != nil {
			return err
		}
		var refused *transport.Error
		if errors.As(err, &refused) && !passingStatus(refused.StatusCode) {
			return err
		}
		wait, again := r.retries.next(0)
		if !again {
			return err
		}
		if err := sleep(r.ctx, wait); err != nil {
			return err
		}
	}
}

// open sends the request for what follows off.
func (r *blobReader) open() error {
	u := r.blob.s.url("blobs/" + r.blob.desc.Digest.String())
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	if r.off > 0 {
		// With an end, since not every registry reads an open range.
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.off, r.blob.desc.Size-1))
	}
	resp, err := r.blob.s.http.Do(req)
	if err != nil {
		return err
	}
	if err := r.positioned(resp); err != nil {
		_ = resp.Body.Close()
		return err
	}
	r.body = resp.Body
	return nil
}

// positioned checks that the body of resp goes on at off, and makes it so when the server ignored the range.
func (r *blobReader) positioned(resp *http.Response) error {
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return err
	}
	size := r.blob.desc.Size
	if resp.StatusCode == http.StatusPartialContent {
		var from, to, all int64
		_, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &all)
		if err != nil || from != r.off || all != size {
			return fmt.Errorf("asked for %d of %d bytes on, got Content-Range %q", r.off, size, resp.Header.Get("Content-Range"))
		}
		return nil
	}
	if resp.ContentLength >= 0 && resp.ContentLength != size {
		return fmt.Errorf("the registry has %d bytes where the manifest says %d", resp.ContentLength, size)
	}
	_, err := io.CopyN(io.Discard, resp.Body, r.off)
	return err
}

// Close ends the transfer. It does not wait for bytes that were not read.
func (r *blobReader) Close() error {
	r.cancel(errReaderClosed)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = errReaderClosed
	}
	if r.body != nil {
		_ = r.body.Close()
		r.body = nil
	}
	return nil
}

func (r *blobReader) fail(err error) error {
	if errors.Is(err, io.EOF) {
		// A connection that ended is not the end of the blob, for whoever looks into the error.
		err = fmt.Errorf("%s: %w", strings.TrimSuffix(err.Error(), ": EOF"), io.ErrUnexpectedEOF)
	}
	return r.blob.client.fail("pull blob", r.blob.s.repo.Name()+"@"+r.blob.desc.Digest.String(), r.blob.s.repo, r.blob.s.who, err)
}

// url is the address of something in the repository.
func (s *session) url(path string) *url.URL {
	return &url.URL{
		// The transport below puts the scheme that the registry speaks.
		Scheme: s.repo.Scheme(),
		Host:   s.repo.RegistryStr(),
		Path:   strings.Join([]string{"/v2", s.repo.RepositoryStr(), path}, "/"),
	}
}

// hasBlob asks whether the blob is in the session's repository.
func (s *session) hasBlob(ctx context.Context, h v1.Hash) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.url("blobs/"+h.String()).String(), nil)
	if err != nil {
		return false, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK, http.StatusNotFound); err != nil {
		return false, err
	}
	return resp.StatusCode == http.StatusOK, nil
}

// moved tells the program of a transfer.
func (c *Client) moved(s *session, desc v1.Descriptor, complete int64, d Direction) {
	if c.o.Progress != nil {
		c.o.Progress(Transfer{
			Digest: desc.Digest, Complete: complete, Total: desc.Size, Direction: d, Registry: s.repo.RegistryStr(),
		})
	}
}
