package push

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// DockerArchive returns an exporter to a tar file that docker load, podman load and skopeo take. names are what the
// image is called when it is loaded; those that are digests are left out, since an archive has no place for them. The
// file appears when it is whole; a path that is no regular file, such as a pipe, is written as the archive is made.
//
// The archive is an OCI image layout too, which newer Docker prefers.
func DockerArchive(path string, names []string) (Exporter, error) {
	a, err := newArchive(names, true)
	if err != nil {
		return nil, err
	}
	return &toFile{path: path, what: "write Docker archive", write: a.write}, nil
}

// DockerArchiveTo is [DockerArchive] to a writer, which gets the archive once for each export. What was written when an
// export fails is no archive. It does not close w.
func DockerArchiveTo(w io.Writer, names []string) (Exporter, error) {
	a, err := newArchive(names, true)
	if err != nil {
		return nil, err
	}
	return &toWriter{w: w, what: "write Docker archive", write: a.write}, nil
}

// OCIArchive returns an exporter to a tar file that holds an OCI image layout with the one image, by the tags of names.
func OCIArchive(path string, names []string) (Exporter, error) {
	a, err := newArchive(names, false)
	if err != nil {
		return nil, err
	}
	return &toFile{path: path, what: "write OCI archive", write: a.write}, nil
}

// OCIArchiveTo is [OCIArchive] to a writer, as [DockerArchiveTo] has it.
func OCIArchiveTo(w io.Writer, names []string) (Exporter, error) {
	a, err := newArchive(names, false)
	if err != nil {
		return nil, err
	}
	return &toWriter{w: w, what: "write OCI archive", write: a.write}, nil
}

// archive writes images as tar.
type archive struct {
	tags   []reference.NamedTagged
	docker bool
}

func newArchive(names []string, docker bool) (*archive, error) {
	a := &archive{docker: docker}
	seen := map[string]bool{}
	for _, n := range names {
		ref, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, fmt.Errorf("parse image name %q: %w", n, err)
		}
		if _, ok := ref.(reference.Digested); ok {
			continue
		}
		tag, ok := reference.TagNameOnly(ref).(reference.NamedTagged)
		if ok && !seen[tag.String()] {
			seen[tag.String()] = true
			a.tags = append(a.tags, tag)
		}
	}
	return a, nil
}

// write makes the archive in one pass, with blobs as they come.
func (a *archive) write(ctx context.Context, w io.Writer, art Artifact) (v1.Hash, error) {
	tw := tar.NewWriter(w)
	if err := addFile(tw, "oci-layout", []byte(layoutVersion)); err != nil {
		return v1.Hash{}, err
	}
	blobs, err := blobsOf(art.Image)
	if err != nil {
		return v1.Hash{}, err
	}
	for _, b := range blobs {
		if err := addBlob(ctx, tw, b); err != nil {
			return v1.Hash{}, err
		}
	}
	desc, raw, err := describe(art)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := addFile(tw, blobPath(desc.Digest), raw); err != nil {
		return v1.Hash{}, err
	}
	if err := addJSON(tw, "index.json", a.index(desc)); err != nil {
		return v1.Hash{}, err
	}
	if a.docker {
		m, err := a.manifest(art.Image)
		if err != nil {
			return v1.Hash{}, err
		}
		if err := addJSON(tw, "manifest.json", m); err != nil {
			return v1.Hash{}, err
		}
	}
	return desc.Digest, tw.Close()
}

// index lists the manifest once for each name. containerd reads the whole name from an annotation of its own.
func (a *archive) index(desc v1.Descriptor) *v1.IndexManifest {
	index := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, t := range a.tags {
		d := desc
		annotate(&d, refName, t.Tag())
		annotate(&d, "io.containerd.image.name", t.String())
		index.Manifests = append(index.Manifests, d)
	}
	if len(a.tags) == 0 {
		index.Manifests = append(index.Manifests, desc)
	}
	return index
}

// dockerManifest is an entry of manifest.json, which docker save makes.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (a *archive) manifest(img v1.Image) ([]dockerManifest, error) {
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return nil, err
	}
	h, err := config.Digest()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	m := dockerManifest{Config: blobPath(h), RepoTags: []string{}, Layers: []string{}}
	for _, t := range a.tags {
		m.RepoTags = append(m.RepoTags, reference.FamiliarString(t))
	}
	for _, l := range layers {
		h, err := l.Digest()
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, blobPath(h))
	}
	return []dockerManifest{m}, nil
}

func addBlob(ctx context.Context, tw *tar.Writer, l v1.Layer) error {
	h, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	if err := addHeader(tw, blobPath(h), size); err != nil {
		return err
	}
	return copyBlob(ctx, tw, l)
}

func addJSON(tw *tar.Writer, name string, v any) error {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	return addFile(tw, name, b.Bytes())
}

func addFile(tw *tar.Writer, name string, contents []byte) error {
	if err := addHeader(tw, name, int64(len(contents))); err != nil {
		return err
	}
	_, err := tw.Write(contents)
	return err
}

// addHeader begins a file whose metadata are always the same, so that the same image makes the same archive.
func addHeader(tw *tar.Writer, name string, size int64) error {
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Clean(name), Size: size, Mode: 0o644})
}
