package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/snapshot/members"
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
	// Reuse keeps compressors from one layer to the next. It may be nil.
	Reuse *members.Reuse
	// Clamp, when not zero, is the latest modification time that a file may have: later times become it.
	Clamp time.Time
}

// format returns what the compression makes and is called.
func (o Options) format() (members.Format, types.MediaType, error) {
	var f members.Format
	var err error
	var oci, docker types.MediaType
	switch o.Compression {
	case Gzip, "":
		f, err = members.Gzip(o.Level)
		oci, docker = types.OCILayer, types.DockerLayer
	case Zstd:
		f, err = members.Zstd(o.Level)
		oci = types.OCILayerZStd
	case Uncompressed:
		f = members.Stored()
		oci, docker = types.OCIUncompressedLayer, types.DockerUncompressedLayer
	default:
		return f, "", fmt.Errorf("unknown compression %q", o.Compression)
	}
	if !o.Docker {
		return f, oci, err
	}
	if docker == "" {
		return f, "", fmt.Errorf("compression %q needs OCI media types", o.Compression)
	}
	return f, docker, err
}

// Write turns changes into a layer: changes, tar, diff ID, compressor, digest and file in one
// pass, in bounded memory. It returns nil and no error when there are no changes. On an error nothing is left in
// Options.Dir. When ctx is done it stops, with an error that wraps context.Cause.
//
// It refuses a stream that is out of order, repeats a path, names a path that is not clean, or
// has a hard link to a file that did not come before; the error names the path. So does the error for a
// file with fewer bytes than its header says; of a file with more, the rest is left out.
func Write(ctx context.Context, changes Changes, o Options) (_ *Blob, err error) {
	format, media, err := o.format()
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	file, err := os.CreateTemp(o.Dir, "layer-*")
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	defer func() {
		if file != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	blob := &digester{w: file, hash: sha256.New()}
	diff := sha256.New()
	pipe := members.NewWriter(blob, diff, format, o.Reuse)
	t := newTarWriter(ctx, pipe, o.Clamp)
	err = t.writeAll(changes)
	if closeErr := pipe.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	if t.index.Len() == 0 {
		return nil, nil
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	b := newBlob(file.Name(), v1.Descriptor{MediaType: media, Digest: digestOf(blob.hash), Size: blob.n}, digestOf(diff))
	b.Index, b.Clamped = t.index, t.clamped
	file = nil
	return b, nil
}

// digestOf returns the digest that h, a SHA-256, has come to.
func digestOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// digester hashes and counts what it passes on.
type digester struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (d *digester) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.hash.Write(p[:n])
	d.n += int64(n)
	return n, err
}
