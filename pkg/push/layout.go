package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

// Annotations of a manifest in an index (image-spec, annotations.md): its tag, and when the index was made.
const (
	refName = "org.opencontainers.image.ref.name"
	created = "org.opencontainers.image.created"
)

const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// OCILayout returns an exporter to the OCI image layout (image-spec, image-layout.md) in the directory path, which is made
// when it does not exist. What else is in the layout stays; the image takes the place of the one that has the same tag.
// Without a tag it takes the place of the one without a tag. Blobs that are not used any more are left.
//
// Several processes may write to one layout at a time.
func OCILayout(path, tag string) Exporter { return &toLayout{dir: path, tag: tag} }

type toLayout struct{ dir, tag string }

// Export implements Exporter. The index is written last, so nobody finds an image that is not whole.
func (e *toLayout) Export(ctx context.Context, a Artifact) ([]Receipt, error) {
	desc, err := e.export(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("write OCI layout %q: %w", e.dir, err)
	}
	return []Receipt{{Name: e.dir, Digest: desc.Digest}}, nil
}

func (e *toLayout) export(ctx context.Context, a Artifact) (v1.Descriptor, error) {
	if err := os.MkdirAll(filepath.Join(e.dir, "blobs", "sha256"), 0o755); err != nil {
		return v1.Descriptor{}, err
	}
	if err := e.mark(); err != nil {
		return v1.Descriptor{}, err
	}
	blobs, err := blobsOf(a.Image)
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, b := range blobs {
		if err := e.putLayer(ctx, b); err != nil {
			return v1.Descriptor{}, err
		}
	}
	desc, raw, err := describe(a)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if err := e.put(desc.Digest, desc.Size, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	}); err != nil {
		return v1.Descriptor{}, err
	}
	if e.tag != "" {
		annotate(&desc, refName, e.tag)
	}
	if ctx.Err() != nil {
		return v1.Descriptor{}, context.Cause(ctx)
	}
	return desc, e.list(desc)
}

// annotate adds an annotation to desc alone, not to copies of it.
func annotate(desc *v1.Descriptor, key, value string) {
	annotations := map[string]string{key: value}
	maps.Copy(annotations, desc.Annotations)
	desc.Annotations = annotations
}

// describe returns the descriptor of the image's manifest, and the manifest. It bears the time only when that is fixed, so
// that what is written twice is the same.
func describe(a Artifact) (v1.Descriptor, []byte, error) {
	raw, err := a.Image.RawManifest()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	mt, err := a.Image.MediaType()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	desc := v1.Descriptor{MediaType: mt, Digest: digest, Size: size}
	if a.Platform.OS != "" {
		desc.Platform = &a.Platform
	}
	if !a.Epoch.IsZero() {
		annotate(&desc, created, a.Epoch.UTC().Format(time.RFC3339))
	}
	return desc, raw, nil
}

// mark makes the directory a layout, and refuses one of a version to come.
func (e *toLayout) mark() error {
	file := filepath.Join(e.dir, "oci-layout")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFile(file, func(w io.Writer) error {
			_, err := io.WriteString(w, layoutVersion)
			return err
		})
	}
	if err != nil {
		return err
	}
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("parse %q: %w", file, err)
	}
	if v.Version != "1.0.0" {
		return fmt.Errorf("version %q of the layout is not known", v.Version)
	}
	return nil
}

func (e *toLayout) putLayer(ctx context.Context, l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	return e.put(digest, size, func(w io.Writer) error { return copyBlob(ctx, w, l) })
}

// put writes a blob unless it is there. Blobs appear whole, so the size is enough to know it by.
func (e *toLayout) put(digest v1.Hash, size int64, write func(io.Writer) error) error {
	dir := filepath.Join(e.dir, "blobs", digest.Algorithm)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, digest.Hex)
	if fi, err := os.Lstat(file); err == nil && fi.Mode().IsRegular() && fi.Size() == size {
		return nil
	}
	return writeFile(file, write)
}

// list puts the manifest into the index.
func (e *toLayout) list(desc v1.Descriptor) error {
	unlock, err := lockDir(e.dir)
	if err != nil {
		return err
	}
	defer unlock()
	file := filepath.Join(e.dir, "index.json")
	index := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if index, err = v1.ParseIndexManifest(bytes.NewReader(b)); err != nil {
			return fmt.Errorf("parse %q: %w", file, err)
		}
	}
	manifests := []v1.Descriptor{}
	for _, d := range index.Manifests {
		if d.Annotations[refName] != e.tag {
			manifests = append(manifests, d)
		}
	}
	index.Manifests = append(manifests, desc)
	return writeFile(file, func(w io.Writer) error { return json.NewEncoder(w).Encode(index) })
}

// lockDir holds the directory against other processes that lock it. It leaves no file behind.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %q: %w", dir, err)
	}
	return func() { _ = f.Close() }, nil
}
