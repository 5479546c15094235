package push

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/registry"
)

// maxNesting bounds indexes within indexes.
const maxNesting = 3

// maxJSON bounds the indexes, manifests and configs that are read into memory.
const maxJSON = 16 << 20

// OpenOCILayout returns an image of an OCI image layout. ref is its directory, followed by ":tag" or "@sha256:…"
// where the layout has several images; without them, the best one for platform p is taken. The layers are read from the
// directory when they are used, and their bytes are not verified. The error lists the tags, or the platforms, that there are.
func OpenOCILayout(ref string, p v1.Platform) (v1.Image, error) {
	dir, tag, digest := splitLayout(ref)
	l := layoutReader{dir: dir}
	index, err := l.index("index.json")
	if err != nil {
		return nil, fmt.Errorf("open OCI layout %q: %w", dir, err)
	}
	if index, err = narrow(index, tag, digest); err != nil {
		return nil, fmt.Errorf("open OCI layout %q: %w", dir, err)
	}
	img, err := l.find(index, p, 0)
	if err != nil {
		return nil, fmt.Errorf("open OCI layout %q: %w", ref, err)
	}
	return img, nil
}

// splitLayout takes tag and digest off a directory, unless a directory has that very name.
func splitLayout(ref string) (dir, tag, digest string) {
	if fi, err := os.Stat(ref); err == nil && fi.IsDir() {
		return ref, "", ""
	}
	dir, digest, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(dir, ':'); i > strings.LastIndexByte(dir, '/') {
		dir, tag = dir[:i], dir[i+1:]
	}
	return dir, tag, digest
}

// narrow leaves in the index what tag or digest ask for.
func narrow(index *v1.IndexManifest, tag, digest string) (*v1.IndexManifest, error) {
	if tag == "" && digest == "" {
		return index, nil
	}
	one := &v1.IndexManifest{}
	var tags []string
	for _, d := range index.Manifests {
		name := d.Annotations[refName]
		if name != "" {
			tags = append(tags, name)
		}
		if digest != "" && d.Digest.String() == digest || digest == "" && name == tag {
			one.Manifests = append(one.Manifests, d)
		}
	}
	switch {
	case len(one.Manifests) > 0:
		return one, nil
	case digest != "":
		return nil, fmt.Errorf("no manifest %s in its index", digest)
	default:
		return nil, fmt.Errorf("no tag %q; there are %q", tag, tags)
	}
}

// layoutReader reads a layout.
type layoutReader struct{ dir string }

func (l layoutReader) index(file string) (*v1.IndexManifest, error) {
	b, err := readJSON(filepath.Join(l.dir, file))
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	return index, nil
}

func readJSON(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err == nil && len(b) > maxJSON {
		err = fmt.Errorf("read %q: larger than %d bytes", file, maxJSON)
	}
	return b, err
}

// find goes down to the manifest for p. A manifest that is alone is taken whatever its platform.
func (l layoutReader) find(index *v1.IndexManifest, p v1.Platform, depth int) (v1.Image, error) {
	if depth > maxNesting {
		return nil, errors.New("indexes are nested too deep")
	}
	candidates := registry.Choose(index, p)
	if len(index.Manifests) == 1 && depth == 0 {
		candidates = index.Manifests
	}
	for _, d := range candidates {
		switch {
		case d.MediaType.IsIndex():
			below, err := l.index(blobPath(d.Digest))
			if err != nil {
				return nil, err
			}
			img, err := l.find(below, p, depth+1)
			var none *registry.PlatformError
			if errors.As(err, &none) {
				continue
			}
			return img, err
		case d.MediaType.IsImage():
			return l.image(d)
		default:
			return nil, fmt.Errorf("not a container image: its media type is %q", d.MediaType)
		}
	}
	return nil, registry.NewPlatformError(index, p)
}

// blobPath is where a blob lies in a layout. Parsing has checked the digest.
func blobPath(h v1.Hash) string { return filepath.Join("blobs", h.Algorithm, h.Hex) }

func (l layoutReader) image(d v1.Descriptor) (v1.Image, error) {
	raw, err := readJSON(filepath.Join(l.dir, blobPath(d.Digest)))
	if err != nil {
		return nil, err
	}
	if h, _, err := v1.SHA256(bytes.NewReader(raw)); err != nil || h != d.Digest {
		return nil, fmt.Errorf("manifest %s has bytes of digest %s: %w", d.Digest, h, err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("parse manifest %s: %w", d.Digest, err)
	}
	config, err := readJSON(filepath.Join(l.dir, blobPath(m.Config.Digest)))
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	return partial.CompressedToImage(&layoutImage{dir: l.dir, kind: d.MediaType, raw: raw, manifest: m, config: config})
}

// layoutImage implements partial.CompressedImageCore.
type layoutImage struct {
	dir         string
	kind        types.MediaType
	raw, config []byte
	manifest    *v1.Manifest
}

func (i *layoutImage) MediaType() (types.MediaType, error) { return i.kind, nil }
func (i *layoutImage) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *layoutImage) RawConfigFile() ([]byte, error)      { return i.config, nil }
func (i *layoutImage) Manifest() (*v1.Manifest, error)     { return i.manifest, nil }
func (i *layoutImage) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(i) }
func (i *layoutImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	desc, err := partial.BlobDescriptor(i, h)
	if err != nil {
		return nil, err
	}
	return &layoutBlob{image: i, desc: *desc}, nil
}

// layoutBlob implements partial.CompressedLayer.
type layoutBlob struct {
	image *layoutImage
	desc  v1.Descriptor
}

func (b *layoutBlob) Digest() (v1.Hash, error)            { return b.desc.Digest, nil }
func (b *layoutBlob) Size() (int64, error)                { return b.desc.Size, nil }
func (b *layoutBlob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }
func (b *layoutBlob) Descriptor() (*v1.Descriptor, error) { return &b.desc, nil }
func (b *layoutBlob) DiffID() (v1.Hash, error)            { return partial.BlobToDiffID(b.image, b.desc.Digest) }
func (b *layoutBlob) Compressed() (io.ReadCloser, error) {
	return os.Open(filepath.Join(b.image.dir, blobPath(b.desc.Digest)))
}
