package registry_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

func TestManifestsOfPrograms(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	ref := p.Host + "/data:tag"
	img := randomImage(t, 1000, 1)
	c := newClient(t, registry.Options{})

	if tags, err := c.Tags(t.Context(), ref, registry.Push); err != nil || len(tags) != 0 {
		t.Errorf("tags of a repository that is not there: %q, %v", tags, err)
	}
	if _, err := c.Manifest(t.Context(), ref, registry.Push); !registry.NotFound(err) {
		t.Errorf("manifest that is not there: %v", err)
	}
	push(t, ref, img)
	if tags, err := c.Tags(t.Context(), ref, registry.Push); err != nil || len(tags) != 1 || tags[0] != "tag" {
		t.Errorf("tags %q, %v", tags, err)
	}
	want, err := partial.Descriptor(img)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := img.RawManifest()
	m, err := c.Manifest(t.Context(), ref, registry.Push)
	if err != nil || m.Digest != want.Digest || m.MediaType != want.MediaType || string(m.Data) != string(raw) {
		t.Errorf("manifest %+v, %v", m, err)
	}

	byDigest := p.Host + "/data@" + want.Digest.String()
	for range 2 { // the second time it is gone
		if err := c.DeleteManifest(t.Context(), byDigest); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Manifest(t.Context(), ref, registry.Push); !registry.NotFound(err) {
		t.Errorf("manifest that was deleted: %v", err)
	}
	p.Inject(registrytest.Times(1, http.MethodDelete, "", registrytest.Status(http.StatusMethodNotAllowed)))
	if err := c.DeleteManifest(t.Context(), byDigest); err == nil || !strings.Contains(err.Error(), "use its own rules") {
		t.Errorf("registry that does not delete: %v", err)
	}
	if err := c.DeleteManifest(t.Context(), ref); err == nil {
		t.Error("a manifest was deleted by its tag")
	}
}

func TestLayerOfADescriptor(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	img := randomImage(t, 1000, 1)
	push(t, p.Host+"/data:tag", img)
	layers, _ := img.Layers()
	desc, err := partial.Descriptor(layers[0])
	if err != nil {
		t.Fatal(err)
	}
	diffID, _ := layers[0].DiffID()
	p.Reset()
	c := newClient(t, registry.Options{})
	l, err := c.Layer(t.Context(), p.Host+"/data:tag", registry.Pull, *desc, diffID)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := l.DiffID(); err != nil || got != diffID || p.Count("", "/data/") != 0 {
		t.Errorf("diff ID %v, %v, after these requests:\n%s", got, err, p.Log())
	}
	rc, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if n, err := io.Copy(io.Discard, rc); err != nil || n != desc.Size {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
