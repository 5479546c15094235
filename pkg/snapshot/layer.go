package snapshot

import (
	"context"
	"errors"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Compression names how a layer's bytes are compressed.
type Compression string

const (
	// Gzip is the default: members of a fixed uncompressed size, compressed in parallel, so that the bytes do
	// not depend on the number of cores.
	Gzip Compression = "gzip"
	// Zstd needs OCI media types.
	Zstd Compression = "zstd"
	// Uncompressed writes the tar itself.
	Uncompressed Compression = "uncompressed"
)

// Options say how a layer is written.
type Options struct {
	// Compression is Gzip when empty.
	Compression Compression
	// Level is the compressor's own scale; zero is our default for it.
	Level int
	// Dir receives the blob. It must exist.
	Dir string
	// Docker asks for Docker's media types instead of the OCI ones.
	Docker bool
	// Clamp, when not zero, is the latest modification time that a file may have: later times become it.
	Clamp time.Time
}

// Blob is a layer that lies in a file. It implements v1.Layer.
type Blob struct {
	v1.Layer
	// Path is the file with the compressed bytes, in Options.Dir. Whoever called Write owns it
	// and may move it, telling the layer with Moved.
	Path string
	// Index lists the layer's files; it was made while writing.
	Index *rootfs.Index
}

// Write turns changes into a layer: changes, tar, diff ID, compressor, digest and file in one
// pass, in bounded memory. It returns nil and no error when there are no changes. On an error nothing is left in
// Options.Dir.
//
// It refuses a stream that is out of order, repeats a path, names a path that is not clean, or
// has a hard link to a file that did not come before; the error names the path.
func Write(ctx context.Context, changes Changes, o Options) (*Blob, error) {
	return nil, errors.ErrUnsupported
}
