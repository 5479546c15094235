package push

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// blobsOf lists the blobs that an image consists of besides its manifest, each once: the layers, and the config last. Layers
// that may not be distributed are left out.
func blobsOf(img v1.Image) ([]v1.Layer, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	seen := map[v1.Hash]bool{}
	var blobs []v1.Layer
	for _, l := range append(layers, config) {
		mt, err := l.MediaType()
		if err != nil {
			return nil, err
		}
		h, err := l.Digest()
		if err != nil {
			return nil, err
		}
		if !seen[h] && mt.IsDistributable() {
			seen[h] = true
			blobs = append(blobs, l)
		}
	}
	return blobs, nil
}

// copyBlob writes the bytes of l to w and fails unless they are those that l promises.
func copyBlob(ctx context.Context, w io.Writer, l v1.Layer) (err error) {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	hasher, err := v1.Hasher(digest.Algorithm)
	if err != nil {
		return err
	}
	rc, err := l.Compressed()
	if err != nil {
		return fmt.Errorf("read layer %s: %w", digest, err)
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	n, err := io.Copy(io.MultiWriter(w, hasher), &contextReader{ctx: ctx, r: io.LimitReader(rc, size+1)})
	switch {
	case err != nil:
		return fmt.Errorf("copy layer %s: %w", digest, err)
	case n != size:
		return fmt.Errorf("copy layer %s: it has %d bytes and not %d", digest, n, size)
	case hex.EncodeToString(hasher.Sum(nil)) != digest.Hex:
		return fmt.Errorf("copy layer %s: its bytes have another digest", digest)
	}
	return nil
}

// contextReader ends with the cause of its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // io.Reader has none
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
