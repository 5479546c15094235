// Package assemble makes an image of a config and layers: it fills in what only the layers know, and gives
// the manifest one family of media types.
package assemble

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
)

// Layer is one layer of the image.
type Layer struct {
	v1.Layer
	// Created is when the layer was made; zero when the history has it already, as for layers of a base.
	Created time.Time
}

// Options say how the image is written down.
type Options struct {
	// Docker asks for Docker's media types instead of the OCI ones.
	Docker bool
	// Annotations go into the manifest.
	Annotations map[string]string
	// Epoch, when not zero, is the time of everything new that has no other.
	Epoch time.Time
	// Fields are further fields at the top of the config, by names that image-spec does not know.
	Fields map[string]json.RawMessage
}

// Image returns the image of config and layers, the lowest layer first. It reads no layer's bytes.
// The image's layers are the given ones, so that one that can be mounted from another repository still can.
func Image(config *dockerspec.DockerOCIImage, layers []Layer, o Options) (v1.Image, error) {
	img := *config
	img.RootFS.Type = "layers"
	img.RootFS.DiffIDs = make([]digest.Digest, len(layers))
	for i, l := range layers {
		diffID, err := l.DiffID()
		if err != nil {
			return nil, fmt.Errorf("get diff ID of layer %d: %w", i, err)
		}
		img.RootFS.DiffIDs[i] = digest.Digest(diffID.String())
	}
	img.History = history(config.History, layers, o.Epoch)
	if n := len(img.History); n > 0 {
		img.Created = img.History[n-1].Created
	}
	raw, err := json.Marshal(img)
	if err == nil {
		raw, err = withFields(raw, o.Fields)
	}
	if err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	return newImage(raw, layers, o)
}

// withFields adds fields to an encoded object that is not empty.
func withFields(object []byte, fields map[string]json.RawMessage) ([]byte, error) {
	if len(fields) == 0 {
		return object, nil
	}
	more, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return slices.Concat(bytes.TrimSuffix(object, []byte("}")), []byte(","), more[1:]), nil
}

// image implements v1.Image.
type image struct {
	config, manifest []byte
	parsed           *v1.Manifest
	layers           []v1.Layer
}

func newImage(config []byte, layers []Layer, o Options) (*image, error) {
	m := &v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        v1.Descriptor{MediaType: types.OCIConfigJSON},
		Layers:        []v1.Descriptor{},
		Annotations:   o.Annotations,
	}
	if o.Docker {
		m.MediaType, m.Config.MediaType = types.DockerManifestSchema2, types.DockerConfigJSON
	}
	var err error
	if m.Config.Digest, m.Config.Size, err = v1.SHA256(bytes.NewReader(config)); err != nil {
		return nil, err
	}
	img := &image{config: config, parsed: m}
	for i, l := range layers {
		desc, err := descriptor(l.Layer, o.Docker)
		if err != nil {
			return nil, fmt.Errorf("describe layer %d: %w", i, err)
		}
		m.Layers = append(m.Layers, desc)
		img.layers = append(img.layers, l.Layer)
	}
	if img.manifest, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return img, nil
}

// descriptor describes a layer with the media type of the wanted family. The bytes are what they are: only
// the name of their format differs between the families (image-spec, media-types.md, "Compatibility Matrix").
func descriptor(l v1.Layer, docker bool) (v1.Descriptor, error) {
	desc, err := partial.Descriptor(l)
	if err != nil {
		return v1.Descriptor{}, err
	}
	out := v1.Descriptor{Digest: desc.Digest, Size: desc.Size, MediaType: desc.MediaType, URLs: desc.URLs, Annotations: desc.Annotations}
	families := []struct{ oci, docker types.MediaType }{
		{types.OCILayer, types.DockerLayer},
		{types.OCIUncompressedLayer, types.DockerUncompressedLayer},
		{types.OCIRestrictedLayer, types.DockerForeignLayer},
		{types.OCILayerZStd, ""},
	}
	for _, f := range families {
		if desc.MediaType != f.oci && desc.MediaType != f.docker {
			continue
		}
		out.MediaType = f.oci
		if docker {
			out.MediaType = f.docker
		}
		if out.MediaType == "" {
			return v1.Descriptor{}, errors.New("a layer compressed with zstd needs OCI media types")
		}
	}
	return out, nil
}

func (i *image) Layers() ([]v1.Layer, error)         { return append([]v1.Layer(nil), i.layers...), nil }
func (i *image) MediaType() (types.MediaType, error) { return i.parsed.MediaType, nil }
func (i *image) Size() (int64, error)                { return int64(len(i.manifest)), nil }
func (i *image) ConfigName() (v1.Hash, error)        { return i.parsed.Config.Digest, nil }
func (i *image) ConfigFile() (*v1.ConfigFile, error) {
	return v1.ParseConfigFile(bytes.NewReader(i.config))
}
func (i *image) RawConfigFile() ([]byte, error)  { return i.config, nil }
func (i *image) Manifest() (*v1.Manifest, error) { return i.parsed.DeepCopy(), nil }
func (i *image) RawManifest() ([]byte, error)    { return i.manifest, nil }

func (i *image) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(i.manifest))
	return h, err
}

// LayerByDigest also finds the config, as go-containerregistry expects.
func (i *image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if h == i.parsed.Config.Digest {
		return partial.ConfigLayer(i)
	}
	for n, d := range i.parsed.Layers {
		if d.Digest == h {
			return i.layers[n], nil
		}
	}
	return nil, fmt.Errorf("image has no layer with digest %s", h)
}

func (i *image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	for _, l := range i.layers {
		if diffID, err := l.DiffID(); err == nil && diffID == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("image has no layer with diff ID %s", h)
}
