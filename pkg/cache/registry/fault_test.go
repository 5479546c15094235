package registry_test

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
	cacheregistry "github.com/gobuild-dev/gobuild/pkg/cache/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

func put(t *testing.T, s cache.Store, name string, e cache.Entry) {
	t.Helper()
	if err := s.Put(t.Context(), cachetest.Key(name), e); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s cache.Store, name string) cache.Entry {
	t.Helper()
	e, err := s.Get(t.Context(), cachetest.Key(name))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func read(l v1.Layer) (string, error) {
	rc, err := l.Compressed()
	if err != nil {
		return "", err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	return string(b), err
}

func layered(contents string) cache.Entry {
	return cache.Entry{Layer: cachetest.Layer(contents), Created: time.Unix(1, 0), Step: "RUN x"}
}

// outcome is how a look-up ends.
type outcome int

const (
	hit outcome = iota
	miss
	passing  // trouble that may be over for the next key
	unusable // trouble that is the same for all keys
)

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return hit
	case errors.Is(err, cache.ErrMiss):
		return miss
	case errors.Is(err, cache.ErrUnusable):
		return unusable
	}
	return passing
}

func TestFaultsWhileLookingUp(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	put(t, open(t, backend+"/app/cache"), "k", layered("contents"))
	const always = 1 << 20
	for name, tc := range map[string]struct {
		times int
		fault registrytest.Fault
		want  outcome
		asked int // requests for 50 keys through a breaker; 0: any number
	}{
		"unauthorized":           {always, registrytest.Status(401), unusable, 1},
		"forbidden":              {always, registrytest.Status(403), unusable, 1},
		"not-found":              {always, registrytest.Status(404), miss, 50},
		"rate-limit-that-passes": {1, registrytest.Status(429, "Retry-After: 1"), hit, 0},
		"rate-limit-of-hours":    {always, registrytest.Status(429, "Retry-After: 21600"), passing, 3},
		"internal-error":         {always, registrytest.Status(500), passing, 5}, // the first with two retries
		"busy-for-a-moment":      {2, registrytest.Status(503), hit, 0},
		"bad-request":            {always, registrytest.Status(400), passing, 3},
		"hangs-once":             {1, registrytest.Hang(), hit, 0},
		"cut-once":               {1, registrytest.CutResponse(100), passing, 0},
		"not-a-manifest":         {always, answer("<html>sign in</html>"), passing, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := registrytest.Before(t, backend)
			p.Inject(registrytest.Times(tc.times, "GET", "/manifests/", tc.fault))
			if _, err := open(t, p.Host+"/app/cache").Get(t.Context(), cachetest.Key("k")); outcomeOf(err) != tc.want {
				t.Errorf("outcome %d: %v", outcomeOf(err), err)
			}
			if tc.asked == 0 {
				return
			}
			p.Reset()
			b := cache.NewBreaker(open(t, p.Host+"/app/cache"))
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() { _, _ = b.Get(t.Context(), cachetest.Key(strconv.Itoa(i))) })
			}
			wg.Wait()
			if n := p.Count("GET", "/manifests/"); n != tc.asked {
				t.Errorf("%d requests for 50 keys, want %d", n, tc.asked)
			}
		})
	}
}

// answer answers with a page.
func answer(body string) registrytest.Fault {
	return func(*http.Request, http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
	}
}

func TestRegistryThatHangsIsAskedOnce(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	p.Inject(registrytest.Times(1<<20, "GET", "/manifests/", registrytest.Hang()))
	s, err := cacheregistry.Open(newClient(t), p.Host+"/app/cache", cacheregistry.Options{Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	b := cache.NewBreaker(s)
	if _, err := b.Get(t.Context(), cachetest.Key("a")); outcomeOf(err) != unusable {
		t.Errorf("first look-up: %v", err)
	}
	if _, err := b.Get(t.Context(), cachetest.Key("b")); outcomeOf(err) != miss {
		t.Errorf("second look-up: %v", err)
	}
	if n := p.Count("GET", "/manifests/"); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}

func TestNobodyListens(t *testing.T) {
	p := registrytest.Before(t, "127.0.0.1:1")
	host := p.Host
	s := open(t, strings.Replace(host, host[strings.Index(host, ":"):], ":1", 1)+"/app/cache")
	if _, err := s.Get(t.Context(), cachetest.Key("k")); outcomeOf(err) != unusable {
		t.Errorf("Get: %v", err)
	}
	if err := s.Put(t.Context(), cachetest.Key("k"), layered("x")); outcomeOf(err) != unusable {
		t.Errorf("Put: %v", err)
	}
}

func TestUnknownRepositoryIsAskedForOnce(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	var exists atomic.Bool
	p.Inject(func(r *http.Request, next http.Handler) http.Handler {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			exists.Store(true)
		}
		if exists.Load() || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/manifests/") {
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`)
		})
	})
	s := open(t, p.Host+"/app/cache")
	for i := range 20 {
		if _, err := s.Get(t.Context(), cachetest.Key(strconv.Itoa(i))); outcomeOf(err) != miss {
			t.Fatal(err)
		}
	}
	if n := p.Count("GET", "/manifests/"); n != 1 {
		t.Errorf("%d requests to a repository that is not there, want one", n)
	}
	put(t, s, "k", layered("x"))
	get(t, s, "k")
}

func TestFaultsWhileReadingALayer(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	contents := strings.Repeat("0123456789", 100_000)
	e := layered(contents)
	put(t, open(t, backend+"/app/cache"), "k", e)
	digest, _ := e.Layer.Digest()
	blob := "/blobs/" + digest.String()
	const always = 1 << 20
	for name, tc := range map[string]struct {
		fault registrytest.Fault
		fails bool
	}{
		"cut-once-goes-on":      {registrytest.Times(1, "GET", blob, registrytest.CutResponse(300_000)), false},
		"cut-always":            {registrytest.Times(always, "GET", blob, registrytest.CutResponse(10)), true},
		"other-bytes":           {registrytest.Times(always, "GET", blob, registrytest.Corrupt()), true},
		"shorter-and-not-cut":   {registrytest.Times(always, "GET", blob, answer("short")), true},
		"unauthorized-meantime": {registrytest.Times(always, "GET", blob, registrytest.Status(401)), true},
		"hangs":                 {registrytest.Times(always, "GET", blob, registrytest.Hang()), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := registrytest.Before(t, backend)
			p.Inject(tc.fault)
			got, err := read(get(t, open(t, p.Host+"/app/cache"), "k").Layer)
			var lost *cache.LostError
			switch {
			case tc.fails && (!errors.As(err, &lost) || lost.Key != cachetest.Key("k")):
				t.Errorf("read %d bytes, %v, want a LostError", len(got), err)
			case !tc.fails && (err != nil || got != contents):
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestLayerThatWasCollectedIsPutAnew(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Config{})
	repo := reg.Host + "/app/cache"
	e := layered("collected")
	put(t, open(t, repo), "k", e)
	digest, _ := e.Layer.Digest()
	for _, path := range []string{"blobs/sha256/" + digest.Hex[:2] + "/" + digest.Hex, "repositories/app/cache/_layers/sha256/" + digest.Hex} {
		path = filepath.Join(reg.Root, "docker/registry/v2", path)
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	var lost *cache.LostError
	if _, err := read(get(t, open(t, repo), "k").Layer); !errors.As(err, &lost) {
		t.Errorf("read of a layer that is gone: %v, want a LostError", err)
	}
	// The step is run after all, to the same result.
	put(t, open(t, repo), "k", e)
	if got, err := read(get(t, open(t, repo), "k").Layer); err != nil || got != "collected" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestFaultsWhilePutting(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	const always = 1 << 20
	for name, tc := range map[string]struct {
		fault registrytest.Fault
		want  outcome
	}{
		"uploads-unauthorized":   {registrytest.Times(always, "POST", "/uploads/", registrytest.Status(401)), unusable},
		"uploads-forbidden":      {registrytest.Times(always, "POST", "/uploads/", registrytest.Status(403)), unusable},
		"repository-not-made":    {registrytest.Times(always, "POST", "/uploads/", registrytest.Status(404)), unusable},
		"registry-is-a-mirror":   {registrytest.Times(always, "POST", "/uploads/", registrytest.Status(405)), unusable},
		"tags-forbidden":         {registrytest.Times(always, "PUT", "/manifests/", registrytest.Status(403)), unusable},
		"manifest-refused":       {registrytest.Times(always, "PUT", "/manifests/", registrytest.Status(400)), passing},
		"rate-limit-that-passes": {registrytest.Times(1, "PUT", "/manifests/", registrytest.Status(429, "Retry-After: 1")), hit},
		"busy-for-a-moment":      {registrytest.Times(2, "POST", "/uploads/", registrytest.Status(503)), hit},
		"upload-cut-once":        {registrytest.Times(1, "PUT", "/uploads/", registrytest.CutRequest(3)), hit},
		"always-busy":            {registrytest.Times(always, "PUT", "/manifests/", registrytest.Status(503)), passing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := registrytest.Before(t, backend)
			p.Inject(tc.fault)
			repo := "/faults/" + name
			err := open(t, p.Host+repo).Put(t.Context(), cachetest.Key("k"), layered("contents of "+name))
			if outcomeOf(err) != tc.want {
				t.Errorf("outcome %d: %v", outcomeOf(err), err)
			}
			// Nothing half-written can be found, whatever happened.
			e, err := open(t, backend+repo).Get(t.Context(), cachetest.Key("k"))
			if want := map[bool]outcome{true: hit, false: miss}[tc.want == hit]; outcomeOf(err) != want {
				t.Errorf("afterwards: outcome %d: %v", outcomeOf(err), err)
			} else if err == nil {
				if got, err := read(e.Layer); err != nil || got != "contents of "+name {
					t.Errorf("afterwards: read %q, %v", got, err)
				}
			}
		})
	}
}

// TestTagsThatCannotBeOverwritten knows how registries say so.
func TestTagsThatCannotBeOverwritten(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	for _, status := range []int{400, 403, 409, 412} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			p := registrytest.Before(t, backend)
			repo := p.Host + "/immutable/" + strconv.Itoa(status)
			put(t, open(t, repo), "k", layered("first"))
			p.Inject(registrytest.Times(1<<20, "PUT", "/manifests/", registrytest.Status(status)))
			put(t, open(t, repo), "k", layered("second"))
			if got, err := read(get(t, open(t, repo), "k").Layer); err != nil || got != "first" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestReadingNeedsNoRightToPush(t *testing.T) {
	backend := registrytest.Start(t, registrytest.Config{}).Host
	put(t, open(t, backend+"/app/cache"), "k", layered("x"))
	p := registrytest.Before(t, backend)
	tokens := &registrytest.Tokens{Deny: func(scope string) bool { return strings.Contains(scope, "push") }}
	p.RequireTokens(tokens)
	s, err := cacheregistry.Open(newClient(t), p.Host+"/app/cache", cacheregistry.Options{Direction: registry.Pull})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(get(t, s, "k").Layer); err != nil || got != "x" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := s.Put(t.Context(), cachetest.Key("other"), layered("y")); outcomeOf(err) != unusable || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Put without the right to push: %v", err)
	}
}
