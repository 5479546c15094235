package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gobuild-dev/gobuild/internal/assemble"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
	"github.com/gobuild-dev/gobuild/pkg/cache/inline"
	cacheregistry "github.com/gobuild-dev/gobuild/pkg/cache/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// inlineImage has one layer for each of contents, whose keys are made of them.
func inlineImage(t *testing.T, created time.Time, contents ...string) v1.Image {
	t.Helper()
	var config dockerspec.DockerOCIImage
	var layers []assemble.Layer
	var all []v1.Layer
	var steps []inline.Step
	for i, c := range contents {
		l := cachetest.Layer(c)
		layers, all = append(layers, assemble.Layer{Layer: l, Created: created}), append(all, l)
		steps = append(steps, inline.Step{Layer: i, Definition: cachetest.Key(c), Content: cachetest.Key(c + " content")})
		config.History = append(config.History, ocispec.History{CreatedBy: "RUN " + c})
	}
	field, err := inline.Encode(all, steps)
	if err != nil {
		t.Fatal(err)
	}
	img, err := assemble.Image(&config, layers, assemble.Options{Fields: map[string]json.RawMessage{inline.Field: field}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func openImage(t *testing.T, ref string) *cacheregistry.Image {
	t.Helper()
	amd64 := v1.Platform{OS: "linux", Architecture: "amd64"}
	i, err := cacheregistry.OpenImage(newClient(t), ref, amd64, cacheregistry.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestImageIsAskedOnce holds that all look-ups together cost a manifest and a config, and no layer.
func TestImageIsAskedOnce(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	ref := p.Host + "/app:1"
	if err := newClient(t).PushImage(t.Context(), ref, inlineImage(t, time.Unix(7, 8), "one", "two")); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	i := openImage(t, ref)
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			if _, err := i.Get(t.Context(), cachetest.Key(strconv.Itoa(n))); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("Get of what is not there: %v", err)
			}
			for _, name := range []string{"one", "one content", "two"} {
				if e := get(t, i, name); !e.Created.Equal(time.Unix(7, 8)) || e.Step != "RUN "+strings.Fields(name)[0] {
					t.Errorf("%s is %+v", name, e)
				}
			}
		})
	}
	wg.Wait()
	all, manifests, blobs := p.Count("", ""), p.Count("GET", "/manifests/"), p.Count("GET", "/blobs/")
	if manifests != 1 || blobs != 1 || all != 3 {
		t.Errorf("%d requests, %d for manifests and %d for blobs; want one each and a ping:\n%s", all, manifests, blobs, p.Log())
	}
	if got, err := read(get(t, i, "two").Layer); err != nil || got != "two" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := i.Put(t.Context(), cachetest.Key("k"), layered("x")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Put: %v", err)
	}
}

// TestLayerOfAnImageIsMounted holds that a hit goes into another repository without its bytes coming here.
func TestLayerOfAnImageIsMounted(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	if err := newClient(t).PushImage(t.Context(), p.Host+"/app:1", inlineImage(t, time.Unix(1, 0), "mounted")); err != nil {
		t.Fatal(err)
	}
	c := newClient(t)
	i, err := cacheregistry.OpenImage(c, p.Host+"/app:1", v1.Platform{}, cacheregistry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := get(t, i, "mounted").Layer
	digest, _ := l.Digest()
	p.Reset()
	if err := c.UploadLayer(t.Context(), p.Host+"/other", l); err != nil {
		t.Fatal(err)
	}
	if p.Count("GET", "/blobs/"+digest.String()) != 0 || p.Count("PUT", "") != 0 {
		t.Errorf("the layer was not mounted:\n%s", p.Log())
	}
}

func TestFaultsOfAnImage(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	img := inlineImage(t, time.Unix(1, 0), "k")
	if err := newClient(t).PushImage(t.Context(), backend+"/app:1", img); err != nil {
		t.Fatal(err)
	}
	layer, _ := cachetest.Layer("k").Digest()
	const always = 1 << 20
	for name, tc := range map[string]struct {
		fault registrytest.Fault
		want  outcome
		lost  bool // what was found cannot be read
	}{
		"unauthorized":       {registrytest.Times(always, "GET", "/manifests/", registrytest.Status(401)), unusable, false},
		"not-found":          {registrytest.Times(always, "GET", "/manifests/", registrytest.Status(404)), miss, false},
		"internal-error":     {registrytest.Times(always, "GET", "/manifests/", registrytest.Status(500)), passing, false},
		"busy-for-a-moment":  {registrytest.Times(2, "GET", "/manifests/", registrytest.Status(503)), hit, false},
		"config-is-cut-once": {registrytest.Times(1, "GET", "/blobs/", registrytest.CutResponse(30)), hit, false},
		"config-is-corrupt":  {registrytest.Times(always, "GET", "/blobs/", registrytest.Corrupt()), passing, false},
		"config-hangs-once":  {registrytest.Times(1, "GET", "/blobs/", registrytest.Hang()), hit, false},
		"layer-is-corrupt":   {registrytest.Times(always, "GET", "/blobs/"+layer.String(), registrytest.Corrupt()), hit, true},
		"layer-is-gone":      {registrytest.Times(always, "GET", "/blobs/"+layer.String(), registrytest.Status(404)), hit, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := registrytest.Before(t, backend)
			p.Inject(tc.fault)
			e, err := openImage(t, p.Host+"/app:1").Get(t.Context(), cachetest.Key("k"))
			if outcomeOf(err) != tc.want {
				t.Fatalf("outcome %d: %v", outcomeOf(err), err)
			}
			if err != nil {
				return
			}
			got, err := read(e.Layer)
			var lost *cache.LostError
			if tc.lost != errors.As(err, &lost) || !tc.lost && got != "k" || tc.lost && lost.Key != cachetest.Key("k") {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// TestImageThatHangs holds that nobody waits for longer than the store may take, and that who does not wait at all does not
// make others begin again.
func TestImageThatHangs(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	p.Inject(registrytest.Times(1<<20, "GET", "/manifests/", registrytest.Hang()))
	i, err := cacheregistry.OpenImage(newClient(t), p.Host+"/app:1", v1.Platform{}, cacheregistry.Options{Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if _, err := i.Get(ctx, cachetest.Key("k")); !errors.Is(err, context.Canceled) {
			t.Errorf("Get of one who is gone: %v", err)
		}
	}
	if _, err := i.Get(t.Context(), cachetest.Key("k")); outcomeOf(err) != unusable {
		t.Errorf("Get: %v", err)
	}
	if n := p.Count("GET", "/manifests/"); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}

// TestDamageOfOnePlatform holds that it is told of once, to one who misses something, and that the others' results are there.
func TestDamageOfOnePlatform(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	good, bad := inlineImage(t, time.Unix(2, 0), "shared", "good"), inlineImage(t, time.Unix(1, 0), "shared", "bad")
	var list []mutate.IndexAddendum
	for i, arch := range []string{"arm64", "amd64"} {
		list = append(list, mutate.IndexAddendum{
			Add: []v1.Image{bad, good}[i], Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), list...)
	ref, err := name.ParseReference(p.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	// The image for the wanted platform comes first, wherever it stands.
	if e := get(t, openImage(t, p.Host+"/app:1"), "shared"); !e.Created.Equal(time.Unix(2, 0)) {
		t.Errorf("the other platform's result was taken: %+v", e)
	}
	get(t, openImage(t, p.Host+"/app:1"), "bad")
	config, _ := bad.ConfigName()
	p.Inject(registrytest.Times(1<<20, "GET", "/blobs/"+config.String(), registrytest.Corrupt()))
	i := openImage(t, p.Host+"/app:1")
	get(t, i, "good")
	if _, err := i.Get(t.Context(), cachetest.Key("bad")); outcomeOf(err) != passing {
		t.Errorf("Get: %v, want the trouble", err)
	}
	if _, err := i.Get(t.Context(), cachetest.Key("bad")); outcomeOf(err) != miss {
		t.Errorf("Get after the trouble was told: %v", err)
	}
	get(t, i, "good")
}

func TestImageNeedsNoRightToPush(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	if err := newClient(t).PushImage(t.Context(), backend+"/app:1", inlineImage(t, time.Unix(1, 0), "k")); err != nil {
		t.Fatal(err)
	}
	p := registrytest.Before(t, backend)
	p.RequireTokens(&registrytest.Tokens{Deny: func(scope string) bool { return strings.Contains(scope, "push") }})
	get(t, openImage(t, p.Host+"/app:1"), "k")
}

func TestOpenImageErrors(t *testing.T) {
	if _, err := cacheregistry.OpenImage(newClient(t), "UPPER/case", v1.Platform{}, cacheregistry.Options{}); err == nil {
		t.Error("a reference that is none was taken")
	}
}
