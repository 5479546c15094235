package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// emptyMachine takes away all that earlier builds have left here.
func (s *site) emptyMachine() {
	s.t.Helper()
	if err := os.RemoveAll(s.work); err != nil {
		s.t.Fatal(err)
	}
}

// digestOf is the digest of an image in the registry behind the proxy, which is not asked.
func (d *depths) digestOf(ref string) v1.Hash {
	d.t.Helper()
	return digestOf(d.t, strings.Replace(ref, d.proxy.Host, registry(d.t).Addr, 1))
}

func digestOf(t *testing.T, ref string) v1.Hash {
	t.Helper()
	h, err := pull(t.Context(), t, ref).Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// cacheDir is a repository for results.
func (d *depths) cacheDir() string { return strings.TrimSuffix(d.destination("steps"), ":1") }

// blobReads counts what was read of blobs other than configs, and blobs that were sent.
func (d *depths) blobTraffic() (reads []string, sent int) {
	for _, r := range d.proxy.Seen(http.MethodGet, "/blobs/") {
		reads = append(reads, r.Path)
	}
	return reads, len(d.proxy.Seen(http.MethodPut, "/blobs/uploads/"))
}

// stages has two stages, with everything that a step can be.
const stages = `RUN echo made > /made && mkdir /out && echo $RANDOM > /out/result
WORKDIR /work
COPY app app
RUN rm app; true
FROM {{base}}
COPY --from=0 /out /out
COPY --link app /app
RUN true
CMD ["x"]
`

func newCached(t *testing.T) *depths {
	d := newDepths(t, "")
	d.lay(map[string]string{"Dockerfile": "FROM " + d.base + "\n" + strings.ReplaceAll(stages, "{{base}}", d.base)})
	return d
}

// TestRegistryCacheOnAnEmptyMachine holds what a cache is for: a machine that was empty a second ago builds the same image
// without running a step, without reading a layer, and without sending one.
func TestRegistryCacheOnAnEmptyMachine(t *testing.T) {
	t.Parallel()
	d := newCached(t)
	first, second := d.destination("first"), d.destination("second")
	d.mustBuild("--destination", first, "--cache-to", d.cacheDir())
	d.emptyMachine()
	d.proxy.Reset()
	out := d.mustBuild("--destination", second, "--cache-from", d.cacheDir())
	if strings.Count(out, "CACHED") != 3 {
		t.Errorf("not all steps of the last stage are cached:\n%s", out)
	}
	if d.digestOf(first) != d.digestOf(second) {
		t.Error("the image from the cache has another digest")
	}
	reads, _ := d.blobTraffic()
	layers, err := pull(t.Context(), t, strings.Replace(second, d.proxy.Host, registry(t).Addr, 1)).Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range reads {
			if strings.HasSuffix(path, digest.String()) {
				t.Errorf("layer %s was read", digest)
			}
		}
		for _, r := range d.proxy.Seen(http.MethodPut, "/second/blobs/uploads/") {
			// The empty layer of a step without changes is nobody's, and so small that it is sent.
			if size, err := l.Size(); err == nil && size > 64 && r.Query.Get("digest") == digest.String() {
				t.Errorf("layer %s was sent", digest)
			}
		}
	}
	d.notExtracted()
	// Nothing was put where nothing was to be put.
	if puts := d.proxy.Count(http.MethodPut, "/steps/"); puts != 0 {
		t.Errorf("%d requests write to a cache that is only read", puts)
	}
}

// TestRegistryCacheAfterAChange holds that a change lets everything before it be, and everything after it that comes out
// the same.
func TestRegistryCacheAfterAChange(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "")
	d.lay(map[string]string{"Dockerfile": "FROM " + d.base + ` AS build
RUN sleep 0; echo early > /early
COPY app /src
RUN wc -c < /src > /binary
FROM ` + d.base + `
COPY --from=build /binary /binary
RUN echo late >> /binary
`})
	cached := []string{"--cache-from", d.cacheDir(), "--cache-to", d.cacheDir()}
	d.mustBuild(append(cached, "--destination", d.destination("one"))...)
	for _, tt := range []struct {
		app  string
		want []string // steps that run
	}{
		{"two", []string{"COPY app", "wc -c"}}, // the same length: the same binary
		{"three", []string{"COPY app", "wc -c", "COPY --from", "echo late"}},
	} {
		d.emptyMachine()
		d.lay(map[string]string{"app": tt.app})
		out := d.mustBuild(append(cached, "--destination", d.destination(tt.app), "--progress", "json", "--explain-cache")...)
		for _, step := range []string{"echo early", "COPY app", "wc -c", "COPY --from", "echo late"} {
			ran := false
			for line := range strings.Lines(out) {
				if strings.Contains(line, `"step-started"`) && strings.Contains(line, step) {
					ran = true
				}
			}
			if want := strings.Contains(strings.Join(tt.want, ";"), step); ran != want {
				t.Errorf("app %q: step %q ran: %v, want %v\n%s", tt.app, step, ran, want, out)
			}
		}
	}
}

// TestRegistryCacheLosesALayer holds that an entry whose layer was collected, or damaged, costs a run of its step and no
// more.
func TestRegistryCacheLosesALayer(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]registrytest.Fault{
		"collected": registrytest.Status(http.StatusNotFound),
		"corrupt":   registrytest.Corrupt(),
		"truncated": registrytest.CutResponse(100),
		"broken":    registrytest.Status(http.StatusInternalServerError),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDepths(t, "RUN head -c 100000 /dev/urandom > /one\nCOPY app /app\nRUN cat /one /app > /two\n")
			cached := []string{"--cache-from", d.cacheDir(), "--cache-to", d.cacheDir()}
			d.mustBuild(append(cached, "--destination", d.destination("one"))...)
			d.emptyMachine()
			// A new step at the end has to see the files of all that are cached.
			d.lay(map[string]string{"app": "two"})
			d.proxy.Reset()
			d.proxy.Inject(registrytest.Times(1<<30, http.MethodGet, "/steps/blobs/", fault))
			out := d.mustBuild(append(cached, "--push-retry", "1", "--destination", d.destination("two"))...)
			if !strings.Contains(out, "made anew") {
				t.Errorf("nothing was said:\n%s", out)
			}
			got := files(t, pull(t.Context(), t, strings.Replace(d.destination("two"), d.proxy.Host, registry(t).Addr, 1)))
			if got["app"] != "two" || got["one"] == "" || got["two"] == "" {
				t.Errorf("the image has %q, %q and %q", got["app"], got["one"], got["two"])
			}
		})
	}
}

// TestCacheInTrouble holds that no trouble of a cache ends a build, and that each is told once.
func TestCacheInTrouble(t *testing.T) {
	t.Parallel()
	dead := registrytest.Nobody(t)
	for name, tt := range map[string]struct {
		args func(d *depths) []string
		code int
		say  string
	}{
		"nobody-listens": {args: func(*depths) []string { return []string{"--cache-from", dead + "/c", "--cache-to", dead + "/c"} }, say: "connection refused"},
		"unauthorized":   {code: http.StatusUnauthorized, say: "401"},
		"forbidden":      {code: http.StatusForbidden, say: "403"},
		"server-error":   {code: http.StatusInternalServerError, say: "500"},
		"not-found":      {code: http.StatusNotFound, say: ""},
		"local-file": {args: func(d *depths) []string {
			file := filepath.Join(d.dir, "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"--cache-from", "type=local,src=" + file, "--cache-to", "type=local,dest=" + file}
		}, say: "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for i := range 12 {
				fmt.Fprintf(&b, "RUN echo %d > /f%d\n", i, i)
			}
			d := newDepths(t, b.String())
			args := []string{"--cache-from", d.cacheDir(), "--cache-to", d.cacheDir()}
			if tt.args != nil {
				args = tt.args(d)
			} else {
				fault := registrytest.Status(tt.code)
				d.proxy.Inject(func(r *http.Request, next http.Handler) http.Handler {
					if !strings.Contains(r.URL.Path, "/steps/") {
						return nil
					}
					return fault(r, next)
				})
			}
			out := d.mustBuild(append(args, "--push-retry", "1", "--destination", d.destination("one"))...)
			if !strings.Contains(out, tt.say) {
				t.Errorf("the trouble is not told: %q\n%s", tt.say, out)
			}
			if n := strings.Count(strings.ToLower(out), "warning"); n > 6 { // three of reading, three of writing
				t.Errorf("%d warnings of one trouble:\n%s", n, out)
			}
		})
	}
}

// TestKanikoCacheFlags holds that the flags of Kaniko mean a repository beside the image's.
func TestKanikoCacheFlags(t *testing.T) {
	t.Parallel()
	d := newCached(t)
	ref := d.destination("image")
	d.mustBuild("--destination", ref, "--cache")
	first := d.digestOf(ref)
	d.emptyMachine()
	d.proxy.Reset()
	d.mustBuild("--destination", ref, "--cache", "--no-push-cache")
	if d.digestOf(ref) != first {
		t.Error("the image from the cache has another digest")
	}
	if n := d.proxy.Count(http.MethodPut, "/image/cache/"); n != 0 {
		t.Errorf("%d requests write to the cache despite --no-push-cache", n)
	}
	if d.proxy.Count(http.MethodGet, "/image/cache/manifests/") == 0 {
		t.Error("the cache was not asked")
	}
	d.emptyMachine()
	if out := d.mustBuild("--destination", ref, "--cache", "--cache-ttl", "0"); strings.Contains(out, "CACHED") {
		t.Errorf("a step is cached though none may be:\n%s", out)
	}
}
