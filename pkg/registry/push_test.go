package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// pulled reads the image at ref back, by another client.
func pulled(t testing.TB, ref string) v1.Image {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("%s: %v", ref, err)
	}
	return img
}

func firstLayer(t testing.TB, img v1.Image) v1.Layer {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return layers[0]
}

func TestPushByTagAndDigest(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	img := randomImage(t, 100_000, 3)
	h := digest(t, img)
	for _, ref := range []string{p.Host + "/x:1", p.Host + "/x:2", p.Host + "/x@" + h.String()} {
		if err := c.PushImage(t.Context(), ref, img); err != nil {
			t.Fatal(err)
		}
		if digest(t, pulled(t, ref)) != h {
			t.Errorf("%s is another image", ref)
		}
	}
	if n := p.Count("PUT", "/blobs/"); n != 4 {
		t.Errorf("%d uploads, want one for each of three layers and the config:\n%s", n, p.Log())
	}
	err := c.PushImage(t.Context(), p.Host+"/x@sha256:"+strings.Repeat("0", 64), img)
	if err == nil || !strings.Contains(err.Error(), h.String()) {
		t.Errorf("pushing to another digest: %v", err)
	}
}

// TestUnchangedPushIsOneRequest: what the tag is already isn't looked at blob by blob.
func TestUnchangedPushIsOneRequest(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	img := randomImage(t, 1000, 3)
	if err := newClient(t, registry.Options{}).PushImage(t.Context(), p.Host+"/x", img); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	if err := newClient(t, registry.Options{}).PushImage(t.Context(), p.Host+"/x", img); err != nil {
		t.Fatal(err)
	}
	if n := p.Count("", "/x/"); n != 1 {
		t.Errorf("%d requests:\n%s", n, p.Log())
	}
}

// TestRegistryIsAskedOnceWhoItIs: the handshake is the registry's, not the repository's.
func TestRegistryIsAskedOnceWhoItIs(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	img := randomImage(t, 1000, 1)
	for _, repo := range []string{"/a", "/b", "/c"} {
		if err := c.PushImage(t.Context(), p.Host+repo, img); err != nil {
			t.Fatal(err)
		}
	}
	pings := 0
	for _, r := range p.Seen("GET", "/v2/") {
		if r.Path == "/v2/" {
			pings++
		}
	}
	if pings != 1 {
		t.Errorf("%d handshakes:\n%s", pings, p.Log())
	}
}

// TestSessionsAtOnceAskOnceWhoTheRegistryIs holds the same for sessions of both directions that begin together.
func TestSessionsAtOnceAskOnceWhoTheRegistryIs(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		ref := fmt.Sprintf("%s/repo%d:1", p.Host, i)
		wg.Go(func() { _, _ = c.Manifest(t.Context(), ref, registry.Pull) })
		wg.Go(func() { _, _ = c.Manifest(t.Context(), ref, registry.Push) })
	}
	wg.Wait()
	if n := p.Count("", "") - p.Count("", "/manifests/"); n != 1 {
		t.Errorf("%d handshakes:\n%s", n, p.Log())
	}
}

// TestForeseenPush holds that what was asked ahead saves the question at the end, and is not taken for what is there now.
func TestForeseenPush(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	old, img := randomImage(t, 1000, 1), randomImage(t, 1000, 1)
	for name, tt := range map[string]struct {
		before, meanwhile v1.Image
		heads, puts       int
	}{
		"nothing-there":      {nil, nil, 1, 1},
		"another-image":      {old, nil, 1, 1},
		"the-image":          {img, nil, 2, 0},
		"moved-away-since":   {img, old, 2, 1},
		"became-it-meantime": {old, img, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, ref := registrytest.Before(t, host), "/foreseen/"+name+":1"
			lay := func(i v1.Image) {
				if i == nil {
					return
				}
				if err := newClient(t, registry.Options{}).PushImage(t.Context(), host+ref, i); err != nil {
					t.Fatal(err)
				}
			}
			lay(tt.before)
			answered := make(chan struct{})
			p.Inject(registrytest.Times(1, "HEAD", "/manifests/", func(_ *http.Request, next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer close(answered)
					next.ServeHTTP(w, r)
				})
			}))
			c := newClient(t, registry.Options{})
			c.Foresee(p.Host + ref)
			<-answered
			lay(tt.meanwhile)
			if err := c.PushImage(t.Context(), p.Host+ref, img); err != nil {
				t.Fatal(err)
			}
			if h, n := p.Count("HEAD", "/manifests/"), p.Count("PUT", "/manifests/"); h != tt.heads || n != tt.puts {
				t.Errorf("%d looks and %d manifests, want %d and %d:\n%s", h, n, tt.heads, tt.puts, p.Log())
			}
			if digest(t, pulled(t, host+ref)) != digest(t, img) {
				t.Error("the tag is another image")
			}
		})
	}
}

// TestConfigAheadOfThePush holds that a config which was sent ahead is not sent again, and not sent at all where the image is there.
func TestConfigAheadOfThePush(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	img := randomImage(t, 1000, 1)
	for _, first := range []bool{true, false} {
		p := registrytest.Before(t, host)
		ref := p.Host + "/ahead:1"
		c := newClient(t, registry.Options{})
		c.Foresee(ref)
		if err := c.UploadConfig(t.Context(), ref, img); err != nil {
			t.Fatal(err)
		}
		want := 0
		if first {
			want = 1
		}
		if asked, sent := p.Count("HEAD", "/blobs/"), p.Count("PUT", "/blobs/"); asked != want || sent != want {
			t.Errorf("asked for %d configs and sent %d, want %d:\n%s", asked, sent, want, p.Log())
		}
		if err := c.PushImage(t.Context(), ref, img); err != nil {
			t.Fatal(err)
		}
		if n := p.Count("PUT", "/blobs/"); n != 2*want {
			t.Errorf("%d blobs, want %d:\n%s", n, 2*want, p.Log())
		}
	}
}

// TestManyLayersAreMountedAtOnce holds that a mount waits for no other, nor for uploads.
func TestManyLayersAreMountedAtOnce(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	img := randomImage(t, 100, 40)
	if err := newClient(t, registry.Options{}).PushImage(t.Context(), host+"/base:1", img); err != nil {
		t.Fatal(err)
	}
	p := registrytest.Before(t, host)
	c := newClient(t, registry.Options{})
	from, err := c.Image(t.Context(), p.Host+"/base:1", v1.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	var arrived atomic.Int32
	all := make(chan struct{}) // no mount is answered before the last has arrived
	p.Inject(func(r *http.Request, next http.Handler) http.Handler {
		if !r.URL.Query().Has("mount") {
			return nil
		}
		if arrived.Add(1) == 40 {
			close(all)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-all:
			case <-r.Context().Done():
			}
			next.ServeHTTP(w, r)
		})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	layers, err := from.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, l := range layers {
		wg.Go(func() {
			if err := c.UploadLayer(ctx, p.Host+"/copy", l); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestTrap91DuplicateLayers: the same layer twice in an image, and in two images at once, is one upload.
func TestTrap91DuplicateLayers(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	l := firstLayer(t, randomImage(t, 100_000, 1))
	img, err := mutate.AppendLayers(empty.Image, l, l)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if err := c.PushImage(t.Context(), fmt.Sprintf("%s/x:%d", p.Host, i), img); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.Count("PUT", "/blobs/"); n != 2 {
		t.Errorf("%d uploads, want the layer and the config:\n%s", n, p.Log())
	}
	m, err := pulled(t, p.Host+"/x:0").Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 2 {
		t.Errorf("the manifest lists %d layers", len(m.Layers))
	}
}

// TestEarlyUploadIsNotRepeated: a layer that was uploaded while the build went on is not touched at the end.
func TestEarlyUploadIsNotRepeated(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	img := randomImage(t, 100_000, 1)
	l := firstLayer(t, img)
	if err := c.UploadLayer(t.Context(), p.Host+"/x", l); err != nil {
		t.Fatal(err)
	}
	h, _ := l.Digest()
	p.Reset()
	if err := c.PushImage(t.Context(), p.Host+"/x", img); err != nil {
		t.Fatal(err)
	}
	if p.Count("", h.String()) != 0 || p.Count("POST", "/blobs/") != 1 || p.Count("PUT", "/blobs/") != 1 {
		t.Errorf("more than the config was touched:\n%s", p.Log())
	}
	pulled(t, p.Host+"/x")
}

// TestBlobsAreMountedAcrossRepositories: a registry gets each blob once.
func TestBlobsAreMountedAcrossRepositories(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	img := randomImage(t, 100_000, 3)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if err := c.PushImage(t.Context(), fmt.Sprintf("%s/team/x%d", p.Host, i), img); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.Count("PUT", "/blobs/"); n != 4 {
		t.Errorf("%d uploads, want 4:\n%s", n, p.Log())
	}
	for i := range 3 {
		pulled(t, fmt.Sprintf("%s/team/x%d", p.Host, i))
	}
}

// TestBaseLayersAreMountedNotMoved: a base in the registry that is pushed to is never downloaded.
func TestBaseLayersAreMountedNotMoved(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	push(t, p.Host+"/base", randomImage(t, 100_000, 3))
	p.Reset()

	c := newClient(t, registry.Options{})
	base, err := c.Image(t.Context(), p.Host+"/base", amd64)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(base, firstLayer(t, randomImage(t, 1000, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PushImage(t.Context(), p.Host+"/app", img); err != nil {
		t.Fatal(err)
	}
	if n := p.Count("GET", "/blobs/"); n != 1 {
		t.Errorf("%d blobs were downloaded, want the config alone:\n%s", n, p.Log())
	}
	if n := p.Count("PUT", "/blobs/"); n != 2 {
		t.Errorf("%d uploads, want the new layer and the config:\n%s", n, p.Log())
	}
	pulled(t, p.Host+"/app")
}

// TestBaseFromElsewhereIsStreamed: from another registry, layers go through without being kept.
func TestBaseFromElsewhereIsStreamed(t *testing.T) {
	from := registrytest.Start(t, registrytest.Config{}).Host
	to := registrytest.Start(t, registrytest.Config{}).Host
	push(t, from+"/base", randomImage(t, 1<<20, 2))
	c := newClient(t, registry.Options{})
	img, err := c.Image(t.Context(), from+"/base", amd64)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PushImage(t.Context(), to+"/copy", img); err != nil {
		t.Fatal(err)
	}
	if digest(t, pulled(t, to+"/copy")) != digest(t, img) {
		t.Error("another image")
	}
}

func TestMountThatIsRefusedBecomesAnUpload(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	img := randomImage(t, 100_000, 1)
	if err := c.PushImage(t.Context(), p.Host+"/a", img); err != nil {
		t.Fatal(err)
	}
	p.Inject(func(r *http.Request, next http.Handler) http.Handler {
		if r.URL.Query().Get("mount") == "" {
			return nil
		}
		return registrytest.Status(http.StatusMethodNotAllowed)(r, next)
	})
	if err := c.PushImage(t.Context(), p.Host+"/b", img); err != nil {
		t.Fatal(err)
	}
	pulled(t, p.Host+"/b")
}

// TestTokens: scopes are asked for, mounts ask for those of their source, and tokens are renewed when they run out.
func TestTokens(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	base := randomImage(t, 1000, 2)
	push(t, backend+"/base", base)
	layer, err := firstLayer(t, base).Digest()
	if err != nil {
		t.Fatal(err)
	}
	var denied atomic.Bool
	for name, tokens := range map[string]*registrytest.Tokens{
		"that last":      {},
		"that run out":   {Uses: 2},
		"without source": {Deny: func(s string) bool { return denied.Load() && s == "repository:base:pull" }},
	} {
		t.Run(name, func(t *testing.T) {
			p := registrytest.Before(t, backend)
			tokens.User, tokens.Password = "alice", "secret"
			p.RequireTokens(tokens)
			k, err := registry.ParseDockerConfig([]byte(`{"auths":{"`+p.Host+`":{"auth":"YWxpY2U6c2VjcmV0"}}}`), "test")
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t, registry.Options{Keychain: k})
			base, err := c.Image(t.Context(), p.Host+"/base", amd64)
			if err != nil {
				t.Fatal(err)
			}
			img, err := mutate.AppendLayers(base, firstLayer(t, randomImage(t, 100_000, 1)))
			if err != nil {
				t.Fatal(err)
			}
			denied.Store(true)
			defer denied.Store(false)
			repo := "app-" + strings.ReplaceAll(name, " ", "-")
			if err := c.PushImage(t.Context(), p.Host+"/"+repo, img); err != nil {
				t.Fatalf("%v\n%s", err, p.Log())
			}
			pulled(t, backend+"/"+repo)
			mounted := true
			for _, r := range p.Seen("PUT", "/uploads/") {
				mounted = mounted && r.Query.Get("digest") != layer.String()
			}
			if mounted != (tokens.Deny == nil) {
				t.Errorf("the base was mounted: %v\n%s", mounted, p.Log())
			}
			if tokens.Uses > 0 && tokens.Issued() < 3 {
				t.Errorf("%d tokens", tokens.Issued())
			}
		})
	}
}

func TestTrap86CheckPush(t *testing.T) {
	locked := registrytest.Start(t, registrytest.Config{Htpasswd: registrytest.Alice}).Host
	c := newClient(t, registry.Options{})
	if err := c.CheckPush(t.Context(), locked+"/x"); err == nil || registry.Status(err) != 401 {
		t.Errorf("got %v, want 401", err)
	}
	open := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	if err := c.CheckPush(t.Context(), open.Host+"/x"); err != nil {
		t.Error(err)
	}
	if open.Count("DELETE", "/uploads/") != 1 {
		t.Errorf("the upload was left open:\n%s", open.Log())
	}
	// A registry that cannot be asked is pushed to.
	open.Inject(registrytest.Times(1000, "POST", "/uploads/", registrytest.Status(404)))
	if err := c.CheckPush(t.Context(), open.Host+"/x"); err != nil {
		t.Error(err)
	}
}

// TestForgottenBlobIsSentAgain: a registry that dropped what was uploaded early gets it again.
func TestForgottenBlobIsSentAgain(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	img := randomImage(t, 1000, 1)
	l := firstLayer(t, img)
	if err := c.UploadLayer(t.Context(), p.Host+"/x", l); err != nil {
		t.Fatal(err)
	}
	h, _ := l.Digest()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+p.Host+"/v2/x/blobs/"+h.String(), nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	if err := c.PushImage(t.Context(), p.Host+"/x", img); err != nil {
		t.Fatal(err)
	}
	pulled(t, p.Host+"/x")
}

// unreadable is a layer whose reader fails.
type unreadable struct {
	v1.Layer
	opened int
}

var errUnreadable = errors.New("disk on fire")

func (u *unreadable) Compressed() (io.ReadCloser, error) {
	u.opened++
	return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 100)), failing{})), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errUnreadable }

func TestUnreadableLayerIsNotRetried(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	l := &unreadable{Layer: firstLayer(t, randomImage(t, 1000, 1))}
	err := newClient(t, registry.Options{}).UploadLayer(t.Context(), host+"/x", l)
	if !errors.Is(err, errUnreadable) || l.opened != 1 {
		t.Errorf("opened %d times: %v", l.opened, err)
	}
}

func TestEmptyAndForeignLayers(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	c := newClient(t, registry.Options{})
	if err := c.UploadLayer(t.Context(), p.Host+"/x", static.NewLayer(nil, types.OCILayer)); err != nil {
		t.Error(err)
	}
	n := p.Count("", "/x/")
	if err := c.UploadLayer(t.Context(), p.Host+"/x", static.NewLayer([]byte("x"), types.DockerForeignLayer)); err != nil {
		t.Error(err)
	}
	if p.Count("", "/x/") != n {
		t.Error("a layer that may not be distributed was")
	}
}

func TestCancelledPushSaysWhy(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	p.Inject(registrytest.Times(1000, "PUT", "/uploads/", registrytest.Hang()))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stage b failed")
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	err := newClient(t, registry.Options{}).PushImage(ctx, p.Host+"/x", randomImage(t, 1<<20, 2))
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	resp, err := http.Head("http://" + p.Host + "/v2/x/manifests/latest")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the tag is there: %v", resp.Status)
	}
}
