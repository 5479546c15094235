package registry

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// Annotations of the manifests that are written here. What is in them describes the whole item, so that neither the config
// nor a layer has to be read.
const (
	entryAnnotation = "dev.gobuild.cache.entry" // a cache.Record
	indexAnnotation = "dev.gobuild.cache.index" // the diff ID of the layer that is indexed
	noteAnnotation  = "dev.gobuild.cache.note"  // the name of the note
	createdKey      = "org.opencontainers.image.created"
)

// emptyTar is the layer of a step that changed no file: an archive of nothing. The image-spec wants portable images to have
// a layer (image-spec, manifest.md), and some registries refuse others.
func emptyTar() v1.Layer {
	return static.NewLayer(make([]byte, 1024), types.OCIUncompressedLayer)
}

// entryImage is the image of an entry.
func entryImage(rec cache.Record, l v1.Layer) (v1.Image, error) {
	raw, err := rec.Encode()
	if err != nil {
		return nil, err
	}
	return ordinary(l, rec.Created, rec.Step, map[string]string{entryAnnotation: string(raw)})
}

// ordinary makes an image of one layer. Its config says no more than it has to: two images of the same layer and step
// share it.
func ordinary(l v1.Layer, created time.Time, by string, annotations map[string]string) (v1.Image, error) {
	kind, err := l.MediaType()
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "unknown", Architecture: "unknown", Created: v1.Time{Time: created.UTC()},
	})
	if err != nil {
		return nil, err
	}
	img, err = mutate.Append(img, mutate.Addendum{
		Layer: l, MediaType: oci(kind), History: v1.History{Created: v1.Time{Time: created.UTC()}, CreatedBy: by},
	})
	if err != nil {
		return nil, err
	}
	all := maps.Clone(annotations)
	all[createdKey] = created.UTC().Format(time.RFC3339Nano)
	return mutate.Annotations(img, all).(v1.Image), nil
}

// oci is the OCI name of a layer's media type: Docker's manifests have no annotations, and an image keeps to one family.
func oci(kind types.MediaType) types.MediaType {
	switch kind {
	case types.DockerLayer:
		return types.OCILayer
	case types.DockerUncompressedLayer:
		return types.OCIUncompressedLayer
	default:
		return kind
	}
}

// parseEntry reads the manifest of an entry. The descriptor is that of its layer.
func parseEntry(m v1.Descriptor) (cache.Record, v1.Descriptor, error) {
	parsed, layer, err := parse(m)
	if err != nil {
		return cache.Record{}, layer, err
	}
	raw, ok := parsed.Annotations[entryAnnotation]
	if !ok {
		return cache.Record{}, layer, fmt.Errorf("the image is no cache entry: it has the annotations %q",
			slices.Sorted(maps.Keys(parsed.Annotations)))
	}
	rec, err := cache.DecodeRecord([]byte(raw))
	if err != nil {
		return cache.Record{}, layer, err
	}
	if l := rec.Layer; l != nil {
		if l.Digest != layer.Digest || l.Size != layer.Size {
			return cache.Record{}, layer, fmt.Errorf("its layer is %s, its record says %s", layer.Digest, l.Digest)
		}
		layer.MediaType = l.MediaType
	}
	return rec, layer, nil
}

// parse reads a manifest that ordinary made.
func parse(m v1.Descriptor) (*v1.Manifest, v1.Descriptor, error) {
	parsed, err := v1.ParseManifest(bytes.NewReader(m.Data))
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("parse manifest: %w", err)
	}
	if len(parsed.Layers) != 1 {
		return nil, v1.Descriptor{}, fmt.Errorf("the image has %d layers instead of one", len(parsed.Layers))
	}
	layer := parsed.Layers[0]
	if len(layer.URLs) > 0 || layer.Data != nil {
		return nil, v1.Descriptor{}, errors.New("the layer is not in the repository")
	}
	return parsed, layer, nil
}

// marked notes under which key a layer was found, and keeps what says where it can be mounted from outermost.
func marked(l v1.Layer, k cache.Key) v1.Layer {
	if m, ok := l.(*remote.MountableLayer); ok {
		return &remote.MountableLayer{Layer: cache.Found(m.Layer, k, nil), Reference: m.Reference}
	}
	return cache.Found(l, k, nil)
}
