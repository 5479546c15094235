package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

func TestFaultsWhilePulling(t *testing.T) {
	const size = 3 << 20
	backend := registrytest.Start(t, registrytest.Config{}).Host
	img := randomImage(t, size, 1)
	push(t, backend+"/x", img)
	layers, _ := img.Layers()
	want, _ := layers[0].Digest()
	blob := "/blobs/" + want.String()

	for _, tc := range []struct {
		name  string
		fault registrytest.Fault
		fails string
		check func(*testing.T, *registrytest.Proxy)
	}{
		{name: "cut twice", fault: registrytest.Times(2, "GET", blob, registrytest.CutResponse(1<<20)),
			check: func(t *testing.T, p *registrytest.Proxy) {
				seen := p.Seen("GET", blob)
				if len(seen) != 3 || !strings.HasPrefix(seen[1].Header.Get("Range"), "bytes=1048576-") {
					t.Errorf("the download did not go on where it was:\n%s", p.Log())
				}
			}},
		{name: "cut and the range ignored", fault: ignoreRange(blob, registrytest.Times(1, "GET", blob, registrytest.CutResponse(1<<20)))},
		{name: "busy", fault: registrytest.Times(2, "GET", blob, registrytest.Status(503))},
		{name: "internal error on manifest", fault: registrytest.Times(2, "GET", "/manifests/", registrytest.Status(500))},
		{name: "always cut at once", fault: registrytest.Times(1000, "GET", blob, registrytest.CutResponse(10)), fails: "unexpected EOF"},
		{name: "wrong bytes", fault: registrytest.Times(1, "GET", blob, registrytest.Corrupt()), fails: "digest"},
		{name: "hangs once", fault: registrytest.Times(1, "GET", blob, registrytest.Hang())},
		{name: "hangs for good", fault: registrytest.Times(1000, "GET", blob, registrytest.Hang()), fails: "hangs"},
		{name: "gone", fault: registrytest.Times(1000, "GET", blob, registrytest.Status(404)), fails: "not found"},
		{name: "limit that is too long", fault: registrytest.Times(1, "GET", "/manifests/", registrytest.Status(429, "Retry-After: 21600")), fails: "rate limit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := registrytest.Before(t, backend)
			p.Inject(tc.fault)
			c := newClient(t, registry.Options{StallTimeout: 200 * time.Millisecond, Retries: 3})
			start := time.Now()
			img, err := c.Image(t.Context(), p.Host+"/x", amd64)
			var got string
			if err == nil {
				got, err = readLayer(t, img)
			}
			switch {
			case tc.fails != "":
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("got %v, want %q", err, tc.fails)
				}
			case err != nil:
				t.Errorf("%v\n%s", err, p.Log())
			case got != want.Hex:
				t.Errorf("read digest %s", got)
			}
			if tc.check != nil {
				tc.check(t, p)
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// ignoreRange drops the Range header before f's request goes on.
func ignoreRange(path string, f registrytest.Fault) registrytest.Fault {
	return func(r *http.Request, next http.Handler) http.Handler {
		if strings.Contains(r.URL.Path, path) {
			r.Header.Del("Range")
		}
		return f(r, next)
	}
}

// TestRetryAfterIsHonoured: the registry says how long to wait, and is believed.
func TestRetryAfterIsHonoured(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	push(t, p.Host+"/x", randomImage(t, 100, 1))
	p.Inject(registrytest.Times(1, "GET", "/manifests/", registrytest.Status(429, "Retry-After: 1")))
	start := time.Now()
	if _, err := newClient(t, registry.Options{}).Image(t.Context(), p.Host+"/x", amd64); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < time.Second || d > 10*time.Second {
		t.Errorf("came back after %v", d)
	}
}

func TestFaultsWhilePushing(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	once := func(method, path string, f registrytest.Fault) registrytest.Fault {
		return registrytest.Times(1, method, path, f)
	}
	for _, tc := range []struct {
		name   string
		fault  registrytest.Fault
		fails  string
		resent int // PUTs of the layer
	}{
		{name: "busy at the start", fault: registrytest.Times(2, "POST", "/uploads/", registrytest.Status(503))},
		{name: "rate limit", fault: once("PUT", "/uploads/", registrytest.Status(429, "Retry-After: 1")), resent: 2},
		{name: "internal error at the end", fault: once("PUT", "/uploads/", registrytest.Status(500)), resent: 2},
		{name: "cut in the middle", fault: once("PUT", "/uploads/", registrytest.CutRequest(1<<20)), resent: 2},
		{name: "cut and the session gone", fault: sessionGone(once("PUT", "/uploads/", registrytest.CutRequest(1<<20))), resent: 2},
		{name: "session lost", fault: once("PUT", "/uploads/", registrytest.Status(404)), resent: 2},
		{name: "hangs once", fault: once("PUT", "/uploads/", registrytest.Hang()), resent: 2},
		{name: "answer lost", fault: once("PUT", "/uploads/", lostAnswer), resent: 1},
		{name: "manifest refused once", fault: once("PUT", "/manifests/", registrytest.Status(502))},
		{name: "never works", fault: registrytest.Times(1000, "PUT", "/uploads/", registrytest.CutRequest(10)), fails: "upload layer"},
		{name: "too large", fault: registrytest.Times(1000, "PUT", "/uploads/", registrytest.Status(413)), fails: "large bodies", resent: 1},
		{name: "no pushing", fault: registrytest.Times(1000, "POST", "/uploads/", registrytest.Status(403)), fails: "access denied"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := registrytest.Before(t, backend)
			p.Inject(tc.fault)
			c := newClient(t, registry.Options{StallTimeout: 200 * time.Millisecond, Retries: 3})
			img := randomImage(t, 3<<20, 1)
			l := firstLayer(t, img)
			ref := p.Host + "/" + strings.ReplaceAll(tc.name, " ", "-")
			err := c.UploadLayer(t.Context(), ref, l)
			if n := p.Count("PUT", "/uploads/"); tc.resent != 0 && n != tc.resent {
				t.Errorf("%d attempts, want %d:\n%s", n, tc.resent, p.Log())
			}
			if err == nil {
				err = c.PushImage(t.Context(), ref, img)
			}
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("got %v, want %q", err, tc.fails)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, p.Log())
			}
			pulled(t, ref)
		})
	}
}

// TestTrap87UploadsGoOn: after a cut, only what is missing is sent, where the registry says what it has. The CNCF
// distribution does not after a request that broke, so this is a registry by the book (distribution-spec, "Pushing a
// blob in chunks").
func TestTrap87UploadsGoOn(t *testing.T) {
	const size, cut = 8 << 20, 6 << 20
	layer := firstLayer(t, randomImage(t, size, 1))
	var got bytes.Buffer
	var mu sync.Mutex
	var ranges []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Location", "/v2/x/blobs/uploads/1")
		switch {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/"):
			w.Header().Set("Range", fmt.Sprintf("0-%d", got.Len()-1))
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodPut && got.Len() == 0:
			_, _ = io.CopyN(&got, r.Body, cut)
			panic(http.ErrAbortHandler)
		case r.Method == http.MethodPut:
			ranges = append(ranges, r.Header.Get("Content-Range"))
			_, _ = io.Copy(&got, r.Body)
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer server.Close()
	c := newClient(t, registry.Options{})
	if err := c.UploadLayer(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/x", layer); err != nil {
		t.Fatal(err)
	}
	total, _ := layer.Size()
	if want := fmt.Sprintf("%d-%d", cut, total-1); len(ranges) != 1 || ranges[0] != want {
		t.Errorf("ranges %q, want %q once", ranges, want)
	}
	h, n, err := v1.SHA256(&got)
	if want, _ := layer.Digest(); err != nil || h != want {
		t.Errorf("%d bytes of %d with digest %v, want %v", n, total, h, want)
	}
}

// sessionGone refuses to say how far an upload is.
func sessionGone(f registrytest.Fault) registrytest.Fault {
	return func(r *http.Request, next http.Handler) http.Handler {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/") {
			return registrytest.Status(404)(r, next)
		}
		return f(r, next)
	}
}

// lostAnswer lets the request arrive, and the answer not.
func lostAnswer(_ *http.Request, next http.Handler) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&nowhere{header: http.Header{}}, r)
		panic(http.ErrAbortHandler)
	})
}

type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(int)             {}
