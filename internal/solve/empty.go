package solve

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// emptyLayer is the layer of a step that changed no file. Images list it, as BuildKit's do, so that
// layers and history match; nobody stores it.
type emptyLayer struct {
	tar, gzip      []byte
	diffID, digest v1.Hash
	mediaType      types.MediaType
}

// newEmptyLayer makes the layer. An empty tar is two blocks of zeros.
func newEmptyLayer(docker bool) *emptyLayer {
	var zipped bytes.Buffer
	l := &emptyLayer{tar: make([]byte, 1024), mediaType: types.OCILayer}
	if docker {
		l.mediaType = types.DockerLayer
	}
	w := gzip.NewWriter(&zipped)
	// A bytes.Buffer takes all that is written.
	_, _ = w.Write(l.tar)
	_ = w.Close()
	l.gzip = zipped.Bytes()
	l.diffID, l.digest = sha256Of(l.tar), sha256Of(l.gzip)
	return l
}

func sha256Of(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func isEmpty(l v1.Layer) bool {
	_, ok := l.(*emptyLayer)
	return ok
}

func (l *emptyLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *emptyLayer) DiffID() (v1.Hash, error)             { return l.diffID, nil }
func (l *emptyLayer) Size() (int64, error)                 { return int64(len(l.gzip)), nil }
func (l *emptyLayer) MediaType() (types.MediaType, error)  { return l.mediaType, nil }
func (l *emptyLayer) Compressed() (io.ReadCloser, error)   { return reader(l.gzip), nil }
func (l *emptyLayer) Uncompressed() (io.ReadCloser, error) { return reader(l.tar), nil }

func reader(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }
