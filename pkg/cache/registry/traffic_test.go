package registry_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
	cacheregistry "github.com/gobuild-dev/gobuild/pkg/cache/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// TestHitsCostOneRequestEach holds that nothing but manifests is asked for, however many keys there are.
func TestHitsCostOneRequestEach(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	writer := open(t, p.Host+"/app/cache")
	const n = 30
	for i := range n {
		put(t, writer, strconv.Itoa(i), layered("layer "+strconv.Itoa(i)))
	}
	p.Reset()
	s := open(t, p.Host+"/app/cache")
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { get(t, s, strconv.Itoa(i)) })
	}
	wg.Wait()
	if all, manifests := p.Count("", ""), p.Count("GET", "/manifests/"); manifests != n || all != n+1 {
		t.Errorf("%d requests for %d keys, %d of them for manifests; want one each and a ping:\n%s", all, n, manifests, p.Log())
	}
}

// TestLayerOfTheImageIsMounted holds that a layer that was pushed with the image is not sent to the cache again.
func TestLayerOfTheImageIsMounted(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t)
	e := layered("pushed with the image")
	if err := c.UploadLayer(t.Context(), p.Host+"/app", e.Layer); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	s, err := cacheregistry.Open(c, p.Host+"/app/cache", cacheregistry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "definition", e)
	digest, _ := e.Layer.Digest()
	for _, r := range p.Seen("PUT", "/uploads/") {
		if r.Query.Get("digest") == digest.String() {
			t.Errorf("the layer was uploaded again:\n%s", p.Log())
		}
	}
	p.Reset()
	put(t, s, "content", e)
	if n := p.Count("", "/blobs/"); n != 0 {
		t.Errorf("%d requests for blobs to put the same entry under a second key:\n%s", n, p.Log())
	}
}

// TestFoundLayerIsMounted holds that a hit goes into the image's repository without its bytes coming here.
func TestFoundLayerIsMounted(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	put(t, open(t, p.Host+"/app/cache"), "k", layered("mounted"))
	c := newClient(t)
	s, err := cacheregistry.Open(c, p.Host+"/app/cache", cacheregistry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := get(t, s, "k").Layer
	p.Reset()
	if err := c.UploadLayer(t.Context(), p.Host+"/app", l); err != nil {
		t.Fatal(err)
	}
	posts := p.Seen("POST", "/v2/app/blobs/uploads/")
	if len(posts) != 1 || posts[0].Query.Get("from") != "app/cache" || p.Count("GET", "/blobs/") != 0 || p.Count("PUT", "") != 0 {
		t.Errorf("the layer was not mounted:\n%s", p.Log())
	}
}

// TestEntriesAreOrdinaryImages holds what registries ask of an image.
func TestEntriesAreOrdinaryImages(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	for name, e := range map[string]cache.Entry{
		"layer":        layered("x"),
		"empty":        {Created: time.Unix(1, 0)},
		"docker-layer": {Created: time.Unix(1, 0), Layer: withType{cachetest.Layer("y"), types.DockerUncompressedLayer}},
	} {
		put(t, open(t, host+"/app/cache"), name, e)
		img, err := newClient(t).Lookup(t.Context(), host+"/app/cache:"+cachetest.Key(name).String())
		if err != nil {
			t.Fatal(err)
		}
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		cf, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if m.MediaType != types.OCIManifestSchema1 || m.Config.MediaType != types.OCIConfigJSON || len(m.Layers) != 1 ||
			m.Layers[0].MediaType != types.OCIUncompressedLayer || len(cf.RootFS.DiffIDs) != 1 || cf.OS == "" || cf.Architecture == "" {
			t.Errorf("%s: manifest %+v, config %+v", name, m, cf)
		}
	}
	// What is of Docker's family stays so for the image that it goes into.
	if mt, _ := get(t, open(t, host+"/app/cache"), "docker-layer").Layer.MediaType(); mt != types.DockerUncompressedLayer {
		t.Errorf("media type %q", mt)
	}
}

type withType struct {
	v1.Layer
	kind types.MediaType
}

func (w withType) MediaType() (types.MediaType, error) { return w.kind, nil }

// TestForeignImagesAreMisses holds that only what Put wrote, for this key, is believed.
func TestForeignImagesAreMisses(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	repo := host + "/app/cache"
	c := newClient(t)
	put(t, open(t, repo), "other", layered("of another key"))
	other, err := c.Lookup(t.Context(), repo+":"+cachetest.Key("other").String())
	if err != nil {
		t.Fatal(err)
	}
	m, err := other.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	record := m.Annotations["dev.gobuild.cache.entry"]
	one, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	two, err := random.Image(10, 2)
	if err != nil {
		t.Fatal(err)
	}
	annotated := func(img v1.Image, record string) v1.Image {
		return mutate.Annotations(mutate.MediaType(img, types.OCIManifestSchema1), map[string]string{"dev.gobuild.cache.entry": record}).(v1.Image)
	}
	own := strings.ReplaceAll(record, cachetest.Key("other").String(), cachetest.Key("k").String())
	for name, img := range map[string]v1.Image{
		"not-an-entry":       one,
		"no-layers":          empty.Image,
		"two-layers":         annotated(two, record),
		"another-layer":      annotated(one, record),
		"of-another-key":     other,
		"key-was-changed":    annotated(other, own),
		"record-is-not-json": annotated(one, "{"),
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.PushImage(t.Context(), repo+":"+cachetest.Key("k").String(), img); err != nil {
				t.Fatal(err)
			}
			_, err := open(t, repo).Get(t.Context(), cachetest.Key("k"))
			if outcomeOf(err) != miss || err.Error() == cache.ErrMiss.Error() {
				t.Errorf("Get: %v, want a miss with a reason", err)
			}
			// A later Put makes it an entry again.
			put(t, open(t, repo), "k", layered(fmt.Sprint("after ", name)))
			get(t, open(t, repo), "k")
		})
	}
}

func TestOpenErrors(t *testing.T) {
	for _, ref := range []string{"", "UPPER/case", "host/x@sha256:" + strings.Repeat("0", 64), "https://host/x"} {
		if _, err := cacheregistry.Open(newClient(t), ref, cacheregistry.Options{}); err == nil {
			t.Errorf("%q was taken", ref)
		}
	}
	s, err := cacheregistry.Open(newClient(t), "localhost:5000/app:buildcache", cacheregistry.Options{})
	if err != nil || s.String() != "localhost:5000/app" {
		t.Errorf("a reference with a tag: %v, %v", s, err)
	}
}

// indexed is a layer that knows its files.
type indexed struct{ v1.Layer }

func (indexed) FileIndex() *rootfs.Index { return &rootfs.Index{} }

// TestSecondKeyOfAnEntryCostsItsManifestAlone holds that neither the layer nor its index is asked about twice.
func TestSecondKeyOfAnEntryCostsItsManifestAlone(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	s := open(t, p.Host+"/app/cache")
	e := cache.Entry{Layer: indexed{cachetest.Layer("x")}, Created: time.Unix(1, 0), Step: "RUN x"}
	put(t, s, "content", e)
	p.Reset()
	put(t, s, "definition", e)
	if all, written := p.Count("", ""), p.Count("PUT", "/manifests/"); all != 2 || written != 1 {
		t.Errorf("%d requests, want a look and a manifest:\n%s", all, p.Log())
	}
}

// TestUselessIndexIsPutAnew holds that an index that cannot be read does not stay in the way.
func TestUselessIndexIsPutAnew(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	repo := p.Host + "/app/cache"
	diffID := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	if err := open(t, repo).PutIndex(t.Context(), diffID, &rootfs.Index{}); err != nil {
		t.Fatal(err)
	}
	p.Inject(registrytest.Times(1, "GET", "/blobs/", registrytest.Corrupt()))
	s := open(t, repo)
	if _, err := s.Index(t.Context(), diffID); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Index that is damaged: %v, want ErrNotExist", err)
	}
	p.Reset()
	if err := s.PutIndex(t.Context(), diffID, &rootfs.Index{}); err != nil || p.Count("PUT", "/manifests/") != 1 {
		t.Errorf("PutIndex: %v, after these requests:\n%s", err, p.Log())
	}
	if _, err := s.Index(t.Context(), diffID); err != nil {
		t.Error(err)
	}
}
