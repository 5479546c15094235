package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Family is one of the two sets of media types in which the same image can be described.
type Family string

const (
	// OCI is that of the image-spec.
	OCI Family = "oci"
	// Docker is that of Docker's image manifest, version 2, schema 2.
	Docker Family = "docker"
)

// familyTypes pairs media types that mean the same bytes.
var familyTypes = []map[Family]types.MediaType{ //nolint:gochecknoglobals // a constant table
	{OCI: types.OCIManifestSchema1, Docker: types.DockerManifestSchema2},
	{OCI: types.OCIConfigJSON, Docker: types.DockerConfigJSON},
	{OCI: types.OCILayer, Docker: types.DockerLayer},
	{OCI: types.OCIUncompressedLayer, Docker: types.DockerUncompressedLayer},
	{OCI: types.OCIRestrictedLayer, Docker: types.DockerForeignLayer},
}

// In returns what the family calls mt, and an error when it has no word for it. Docker has none for zstd.
func (f Family) In(mt types.MediaType) (types.MediaType, error) {
	if f == OCI && (mt == types.OCILayerZStd || mt == types.OCIUncompressedRestrictedLayer) {
		return mt, nil
	}
	for _, pair := range familyTypes {
		if pair[OCI] == mt || pair[Docker] == mt {
			return pair[f], nil
		}
	}
	return "", fmt.Errorf("media type %q has no counterpart in the %s family", mt, f)
}

// InFamily returns the image described in one family of media types: registries refuse mixtures. Only the manifest
// changes; config and layers keep their bytes, and where they can be mounted from. An image that is in the family
// already is returned as it is.
func InFamily(img v1.Image, f Family) (v1.Image, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	kind, err := img.MediaType()
	if err != nil {
		return nil, err
	}
	want := m.DeepCopy()
	if want.MediaType, err = f.In(kind); err != nil {
		return nil, err
	}
	if want.Config.MediaType, err = f.In(m.Config.MediaType); err != nil {
		return nil, err
	}
	for i := range want.Layers {
		if want.Layers[i].MediaType, err = f.In(m.Layers[i].MediaType); err != nil {
			return nil, fmt.Errorf("layer %s: %w", m.Layers[i].Digest, err)
		}
	}
	if kind == want.MediaType && sameTypes(m, want) {
		return img, nil
	}
	raw, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	return &relabelled{Image: img, family: f, manifest: want, raw: raw}, nil
}

// sameTypes reports whether manifests of the same image describe it alike. A manifest need not say its own type.
func sameTypes(a, b *v1.Manifest) bool {
	return (a.MediaType == "" || a.MediaType == b.MediaType) && a.Config.MediaType == b.Config.MediaType &&
		slices.EqualFunc(a.Layers, b.Layers, func(x, y v1.Descriptor) bool { return x.MediaType == y.MediaType })
}

// relabelled is an image with another manifest for the same blobs.
type relabelled struct {
	v1.Image
	family   Family
	manifest *v1.Manifest
	raw      []byte
}

func (r *relabelled) MediaType() (types.MediaType, error) { return r.manifest.MediaType, nil }
func (r *relabelled) Manifest() (*v1.Manifest, error)     { return r.manifest.DeepCopy(), nil }
func (r *relabelled) RawManifest() ([]byte, error)        { return bytes.Clone(r.raw), nil }
func (r *relabelled) Size() (int64, error)                { return int64(len(r.raw)), nil }

func (r *relabelled) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(r.raw))
	return h, err
}

func (r *relabelled) Layers() ([]v1.Layer, error) {
	layers, err := r.Image.Layers()
	if err != nil {
		return nil, err
	}
	list := make([]v1.Layer, len(layers))
	for i, l := range layers {
		list[i] = r.relabel(l)
	}
	return list, nil
}

func (r *relabelled) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := r.Image.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	return r.relabel(l), nil
}

func (r *relabelled) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	l, err := r.Image.LayerByDiffID(h)
	if err != nil {
		return nil, err
	}
	return r.relabel(l), nil
}

// ConfigLayer keeps the config mountable (partial.ConfigLayer).
func (r *relabelled) ConfigLayer() (v1.Layer, error) {
	l, err := partial.ConfigLayer(r.Image)
	if err != nil {
		return nil, err
	}
	return r.relabel(l), nil
}

// relabel keeps a layer mountable.
func (r *relabelled) relabel(l v1.Layer) v1.Layer {
	if m, ok := l.(*remote.MountableLayer); ok {
		return &remote.MountableLayer{Layer: r.relabel(m.Layer), Reference: m.Reference}
	}
	return &relabelledLayer{Layer: l, family: r.family}
}

type relabelledLayer struct {
	v1.Layer
	family Family
}

func (l *relabelledLayer) MediaType() (types.MediaType, error) {
	mt, err := l.Layer.MediaType()
	if err != nil {
		return "", err
	}
	return l.family.In(mt)
}

// FileIndex implements rootfs.Indexed for layers that do.
func (l *relabelledLayer) FileIndex() *rootfs.Index {
	if x, ok := l.Layer.(rootfs.Indexed); ok {
		return x.FileIndex()
	}
	return nil
}
