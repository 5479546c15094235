package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// fileLayer is an archive with one file, which makes an image of it an ordinary one.
func fileLayer(name string, data []byte) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644, Format: tar.FormatPAX}
	if err := w.WriteHeader(hdr); err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return static.NewLayer(archive.Bytes(), types.OCIUncompressedLayer), nil
}

// readFile gives the file of the layer that tag's manifest names to read. All of the blob is read before that is believed, since
// its digest is known at the end.
func (s *Store) readFile(ctx context.Context, tag, name string, desc v1.Descriptor, read func(io.Reader) error) error {
	l, err := s.client.Layer(ctx, s.tag(tag), s.o.Direction, desc, desc.Digest)
	if err != nil {
		return err
	}
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { rc.Close() })()
	defer rc.Close()
	archive := tar.NewReader(rc)
	if hdr, err := archive.Next(); err != nil || hdr.Name != name {
		return fmt.Errorf("read archive: no file %q in it: %w", name, err)
	}
	if err := read(archive); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, rc)
	return err
}

// fileManifest is what the manifest of a file says that an annotation names.
type fileManifest struct {
	of      string
	created time.Time
	layer   v1.Descriptor
}

func parseFile(m v1.Descriptor, annotation string, limit int64) (fileManifest, error) {
	parsed, layer, err := parse(m)
	if err != nil {
		return fileManifest{}, err
	}
	f := fileManifest{layer: layer, of: parsed.Annotations[annotation]}
	if f.of == "" {
		return f, fmt.Errorf("there is no annotation %s", annotation)
	}
	if layer.Size > limit {
		return f, fmt.Errorf("the file has %d bytes, more than %d", layer.Size, limit)
	}
	if f.created, err = time.Parse(time.RFC3339Nano, parsed.Annotations[createdKey]); err != nil {
		return f, fmt.Errorf("read annotation %s: %w", createdKey, err)
	}
	return f, nil
}
