package registry_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// manyImages pushes an index of an image for s390x, an index of one for amd64 and of an attestation, and an artifact, and returns
// the digests of the two images.
func manyImages(t *testing.T, host string) (digests []v1.Hash) {
	t.Helper()
	add := func(p string, img mutate.Appendable) mutate.IndexAddendum {
		a := mutate.IndexAddendum{Add: img}
		if p != "" {
			platform, err := v1.ParsePlatform(p)
			if err != nil {
				t.Fatal(err)
			}
			a.Platform = platform
		}
		return a
	}
	image := func() v1.Image {
		img, err := random.Image(100, 1)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	s390x, intel := image(), image()
	artifact := mutate.ConfigMediaType(mutate.MediaType(image(), types.OCIManifestSchema1), "application/vnd.example.thing")
	nested := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		add("unknown/unknown", image()), add("linux/amd64", intel))
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		add("linux/s390x", s390x), add("", artifact), add("linux/amd64", nested))
	if err := remote.WriteIndex(mustParse(t, host+"/many:1"), index); err != nil {
		t.Fatal(err)
	}
	for _, img := range []v1.Image{s390x, intel} {
		h, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, h)
	}
	return digests
}

func mustParse(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func digestsOf(t *testing.T, images []v1.Image) (list []v1.Hash) {
	t.Helper()
	for _, img := range images {
		h, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
	return list
}

func TestImagesOfAnIndex(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	want := manyImages(t, p.Host)
	c := newClient(t, registry.Options{})
	for first, want := range map[string][]v1.Hash{
		"linux/s390x": want, "linux/amd64": {want[1], want[0]}, "linux/arm64": want,
	} {
		platform, err := v1.ParsePlatform(first)
		if err != nil {
			t.Fatal(err)
		}
		images, err := c.Images(t.Context(), p.Host+"/many:1", registry.Pull, *platform)
		if err != nil {
			t.Fatal(err)
		}
		if got := digestsOf(t, images); !slices.Equal(got, want) {
			t.Errorf("%s first: %v, want %v", first, got, want)
		}
		p.Reset()
		for _, img := range images {
			if _, err := img.ConfigFile(); err != nil {
				t.Error(err)
			}
		}
		if n := p.Count("", ""); n != 0 {
			t.Errorf("%d requests for configs that were fetched", n)
		}
	}
}

// TestImagesOfABrokenIndex holds that one image that cannot be had is no reason to do without the others.
func TestImagesOfABrokenIndex(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	want := manyImages(t, p.Host)
	p.Inject(registrytest.Times(1<<30, http.MethodGet, "/manifests/"+want[0].String(), registrytest.Status(http.StatusNotFound)))
	images, err := newClient(t, registry.Options{}).Images(t.Context(), p.Host+"/many:1", registry.Pull, amd64)
	if got := digestsOf(t, images); !slices.Equal(got, want[1:]) {
		t.Errorf("%v, want %v", got, want[1:])
	}
	var typed *registry.Error
	if !errors.As(err, &typed) || !strings.Contains(err.Error(), want[0].String()) {
		t.Errorf("error is %v", err)
	}
}

func TestImagesOfOneImage(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(mustParse(t, host+"/one:1"), img); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, registry.Options{})
	images, err := c.Images(t.Context(), host+"/one:1", registry.Pull, v1.Platform{})
	if err != nil || !slices.Equal(digestsOf(t, images), digestsOf(t, []v1.Image{img})) {
		t.Errorf("%v, %v", images, err)
	}
	if _, err := c.Images(t.Context(), host+"/none:1", registry.Pull, v1.Platform{}); !registry.NotFound(err) {
		t.Errorf("error for what is not there: %v", err)
	}
	c.Close()
	if _, err := c.Images(t.Context(), host+"/one:1", registry.Pull, v1.Platform{}); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("error of a closed client: %v", err)
	}
}
