package push

import (
	"bufio"
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// bufferSize of what is written to files: a tar makes many small writes.
const bufferSize = 128 << 10

// encode writes an artifact as a stream and returns the digest of its manifest.
type encode func(ctx context.Context, w io.Writer, a Artifact) (v1.Hash, error)

// toFile is an exporter to a file that appears when it is whole.
type toFile struct {
	path, what string
	write      encode
}

// Export implements Exporter.
func (e *toFile) Export(ctx context.Context, a Artifact) ([]Receipt, error) {
	var digest v1.Hash
	err := writeFile(e.path, func(w io.Writer) (err error) {
		digest, err = buffered(ctx, w, a, e.write)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", e.what, e.path, err)
	}
	return []Receipt{{Name: e.path, Digest: digest}}, nil
}

// toWriter is an exporter to a stream.
type toWriter struct {
	w     io.Writer
	what  string
	write encode
}

// Export implements Exporter.
func (e *toWriter) Export(ctx context.Context, a Artifact) ([]Receipt, error) {
	digest, err := buffered(ctx, e.w, a, e.write)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.what, err)
	}
	return []Receipt{{Name: "-", Digest: digest}}, nil
}

func buffered(ctx context.Context, w io.Writer, a Artifact, write encode) (v1.Hash, error) {
	b := bufio.NewWriterSize(w, bufferSize)
	digest, err := write(ctx, b, a)
	if err != nil {
		return v1.Hash{}, err
	}
	if ctx.Err() != nil {
		return v1.Hash{}, context.Cause(ctx)
	}
	return digest, b.Flush()
}
