package registry_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

var amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}

// newClient returns a client that is quick to try again.
func newClient(t testing.TB, o registry.Options) *registry.Client {
	t.Helper()
	if o.RetryDelay == 0 {
		o.RetryDelay = time.Millisecond
	}
	c, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// randomImage is an image of n layers of size bytes.
func randomImage(t testing.TB, size int64, n int) v1.Image {
	t.Helper()
	img, err := random.Image(size, int64(n))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func push(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
}

func digest(t testing.TB, img v1.Image) v1.Hash {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestImageIsWholeAndLazy(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	want := randomImage(t, 300_000, 3)
	push(t, p.Host+"/base:1", want)
	p.Reset()

	c := newClient(t, registry.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	got, err := c.Image(ctx, p.Host+"/base:1", amd64)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // layers outlive the call that found them
	if n := p.Count("", "/blobs/"); n != 0 {
		t.Errorf("resolving the image touched %d blobs:\n%s", n, p.Log())
	}
	if digest(t, got) != digest(t, want) {
		t.Error("another digest")
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if _, ok := l.(*remote.MountableLayer); !ok {
			t.Errorf("layer is a %T, which cannot be mounted", l)
		}
		if _, err := l.DiffID(); err != nil {
			t.Error(err)
		}
	}
	if n := p.Count("", "/blobs/"); n != 1 {
		t.Errorf("diff IDs took %d blobs, want the config alone:\n%s", n, p.Log())
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
}

func TestTrap94IndexGivesThePlatform(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	images := map[string]v1.Image{}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "unknown/unknown"} {
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		images[p] = randomImage(t, 100, 1)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: images[p], Descriptor: v1.Descriptor{Platform: platform},
		})
	}
	ref, _ := name.ParseReference(host + "/multi")
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, registry.Options{})
	for want, get := range map[string]string{
		"linux/amd64": "linux/amd64/v2", "linux/arm/v6": "linux/arm/v6", "linux/arm/v7": "linux/arm/v7", "linux/arm64": "linux/arm64/v8",
	} {
		p, _ := v1.ParsePlatform(get)
		img, err := c.Image(t.Context(), ref.String(), *p)
		if err != nil {
			t.Errorf("%s: %v", get, err)
			continue
		}
		if digest(t, img) != digest(t, images[want]) {
			t.Errorf("%s gave another image than %s", get, want)
		}
	}

	_, err := c.Image(t.Context(), ref.String(), v1.Platform{OS: "linux", Architecture: "s390x"})
	var none *registry.PlatformError
	if !errors.As(err, &none) {
		t.Fatalf("got %v, want a PlatformError", err)
	}
	if s := err.Error(); !strings.Contains(s, "linux/s390x") || !strings.Contains(s, "linux/arm/v6") || strings.Contains(s, "unknown") {
		t.Errorf("the error does not list the platforms there are: %v", err)
	}
	if _, err := c.Lookup(t.Context(), ref.String()); err == nil || !strings.Contains(err.Error(), "index") {
		t.Errorf("looking up an index: %v", err)
	}
}

// TestIndexFallsBackToLesserVariant: without arm/v7 the image of arm/v6 runs.
func TestIndexFallsBackToLesserVariant(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	v6 := randomImage(t, 100, 1)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: v6, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}},
	})
	ref, _ := name.ParseReference(host + "/multi")
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	img, err := newClient(t, registry.Options{}).Image(t.Context(), ref.String(), v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"})
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, img) != digest(t, v6) {
		t.Error("another image")
	}
}

func TestSchema1IsRefused(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	p.Inject(registrytest.Times(1, "GET", "/manifests/", func(*http.Request, http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema1Signed))
			fmt.Fprint(w, `{"schemaVersion":1,"name":"old"}`)
		})
	}))
	_, err := newClient(t, registry.Options{}).Image(t.Context(), p.Host+"/old", amd64)
	if err == nil || !strings.Contains(err.Error(), "schema 1") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	plain := registrytest.Start(t, registrytest.Config{}).Host
	locked := registrytest.Start(t, registrytest.Config{Htpasswd: registrytest.Alice}).Host
	tls := registrytest.Start(t, registrytest.Config{TLS: true}).Host
	keys := func(s string) *registry.DockerKeychain {
		k, err := registry.ParseDockerConfig([]byte(s), "/etc/config.json")
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, tc := range []struct {
		name, ref string
		keychain  *registry.DockerKeychain
		want      []string
		status    int
	}{
		{"no such tag", plain + "/none:1", nil, []string{`pull image "` + plain + `/none:1"`, "not found", "check the name"}, 404},
		{"no credentials", locked + "/x", keys(`{}`), []string{"not authorized", "no credentials for " + locked, "/etc/config.json"}, 401},
		{"no keychain", locked + "/x", nil, []string{"not authorized", "no keychain"}, 401},
		{"wrong credentials", locked + "/x", keys(`{"auths":{"` + locked + `":{"auth":"YWxpY2U6d3Jvbmc="}}}`), []string{"credentials for " + locked + " were refused", "/etc/config.json"}, 401},
		{"broken helper", locked + "/x", keys(`{"credsStore":"surely-not-installed"}`), []string{"docker-credential-surely-not-installed is not installed"}, 401},
		{"untrusted certificate", tls + "/x", nil, []string{"--registry-certificate=" + tls}, 400},
		{"nobody there", "127.0.0.1:1/x", nil, []string{"nothing listens at 127.0.0.1:1"}, 0},
		{"no such host", "registry.invalid/x", nil, []string{"registry.invalid cannot be resolved"}, 0},
		{"not a reference", "UPPER/case:1", nil, []string{`"UPPER/case:1"`, "lower case"}, 0},
		{"a URL", "https://" + plain + "/x", nil, []string{"no scheme"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := registry.Options{Retries: -1}
			if tc.keychain != nil {
				o.Keychain = tc.keychain
			}
			_, err := newClient(t, o).Image(t.Context(), tc.ref, amd64)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in the error: %v", w, err)
				}
			}
			if registry.Status(err) != tc.status {
				t.Errorf("status %d, want %d", registry.Status(err), tc.status)
			}
			var terr *transport.Error
			if tc.status != 0 && !errors.As(err, &terr) {
				t.Error("the registry's answer is not in the chain")
			}
			if registry.NotFound(err) != (tc.status == 404) {
				t.Errorf("NotFound is %v", registry.NotFound(err))
			}
		})
	}
}

func TestTLS(t *testing.T) {
	r := registrytest.Start(t, registrytest.Config{TLS: true})
	img := randomImage(t, 1000, 1)
	for name, o := range map[string]registry.Options{
		"certificate":   {Certificates: map[string]string{r.Host: r.CA}},
		"skip by name":  {SkipTLSVerifyRegistries: []string{r.Host}},
		"skip for both": {SkipTLSVerify: true, SkipTLSVerifyPull: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, o)
			if err := c.PushImage(t.Context(), r.Host+"/x", img); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Image(t.Context(), r.Host+"/x", amd64); err != nil {
				t.Fatal(err)
			}
		})
	}
	c := newClient(t, registry.Options{SkipTLSVerify: true})
	if _, err := c.Image(t.Context(), r.Host+"/x", amd64); err == nil {
		t.Error("a pull went by without verification that only pushes may do without")
	}
	if _, err := registry.New(registry.Options{Certificates: map[string]string{"x": "/dev/null"}}); err == nil {
		t.Error("a certificate file without certificates was taken")
	}
}

func TestBasicAuthentication(t *testing.T) {
	r := registrytest.Start(t, registrytest.Config{Htpasswd: registrytest.Alice})
	k, err := registry.ParseDockerConfig([]byte(`{"auths":{"http://`+r.Host+`/v2/":{"username":"alice","password":"secret"}}}`), "test")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, registry.Options{Keychain: k})
	img := randomImage(t, 1000, 1)
	if err := c.PushImage(t.Context(), r.Host+"/team/x", img); err != nil {
		t.Fatal(err)
	}
	got, err := c.Image(t.Context(), r.Host+"/team/x", amd64)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
}

// TestTrap88Mirrors: mirrors in order, by prefix, with plain HTTP, then the origin.
func TestTrap88Mirrors(t *testing.T) {
	mirror := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	img := randomImage(t, 1000, 1)
	push(t, mirror.Host+"/proxy/library/debian:12", img)
	var warnings []string
	o := registry.Options{
		Map:                 map[string][]string{"docker.io": {"127.0.0.1:1"}},
		Mirrors:             []string{"http://" + mirror.Host + "/proxy/"},
		SkipDefaultFallback: true,
		Warn:                func(s string) { warnings = append(warnings, s) },
	}
	c := newClient(t, o)
	got, err := c.Image(t.Context(), "debian:12", amd64)
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, got) != digest(t, img) {
		t.Error("another image")
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "127.0.0.1:1") {
		t.Errorf("warnings: %q", warnings)
	}
	if _, err := c.Image(t.Context(), "debian:13", amd64); err == nil || !strings.Contains(err.Error(), "not on any mirror") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Image(t.Context(), "debian@"+digest(t, img).String(), amd64); err != nil {
		t.Errorf("by digest: %v", err)
	}

	// Another registry is not docker.io.
	push(t, mirror.Host+"/own", img)
	if _, err := c.Image(t.Context(), mirror.Host+"/own", amd64); err != nil {
		t.Error(err)
	}
}

func TestMirrorFallsBackToOrigin(t *testing.T) {
	origin := registrytest.Start(t, registrytest.Config{}).Host
	mirror := registrytest.Start(t, registrytest.Config{}).Host
	push(t, origin+"/x", randomImage(t, 1000, 1))
	c := newClient(t, registry.Options{Map: map[string][]string{origin: {mirror}}})
	if _, err := c.Image(t.Context(), origin+"/x", amd64); err != nil {
		t.Error(err)
	}
	if _, err := c.Head(t.Context(), origin+"/x"); err != nil {
		t.Error(err)
	}
}

// readLayer reads the first layer and returns its digest.
func readLayer(t *testing.T, img v1.Image) (string, error) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		return "", err
	}
	defer rc.Close()
	h := sha256.New()
	_, err = io.Copy(h, rc)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

func TestCloseEndsReads(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	push(t, p.Host+"/x", randomImage(t, 100_000, 1))
	p.Inject(registrytest.Times(1000, "GET", "/blobs/", registrytest.Hang()))
	c := newClient(t, registry.Options{})
	img, err := c.Image(t.Context(), p.Host+"/x", amd64)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, c.Close)
	if _, err := readLayerByDigest(t, img); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// readLayerByDigest opens a layer without the config.
func readLayerByDigest(t *testing.T, img v1.Image) (int64, error) {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	l, err := img.LayerByDigest(m.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := l.Compressed()
	if err != nil {
		return 0, err
	}
	defer rc.Close()
	return io.Copy(io.Discard, rc)
}

func TestProgressIsTold(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	moves := make(chan registry.Transfer, 10_000)
	c := newClient(t, registry.Options{Progress: func(m registry.Transfer) { moves <- m }})
	if err := c.PushImage(t.Context(), host+"/x", randomImage(t, 1<<20, 1)); err != nil {
		t.Fatal(err)
	}
	img, err := c.Image(t.Context(), host+"/x", amd64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readLayer(t, img); err != nil {
		t.Fatal(err)
	}
	close(moves)
	whole := map[registry.Direction]bool{}
	for m := range moves {
		if m.Complete > m.Total || m.Registry != host {
			t.Errorf("%+v", m)
		}
		if m.Total > 1000 && m.Complete == m.Total {
			whole[m.Direction] = true
		}
	}
	if !whole[registry.Pull] || !whole[registry.Push] {
		t.Errorf("ends that were told: %v", whole)
	}
}
