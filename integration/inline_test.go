package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// inlineField is the field of a config that has the inline cache.
const inlineField = "dev.gobuild.cache.v1"

// image is what the registry behind the proxy, which is not asked, has at ref.
func (d *depths) image(ref string) v1.Image {
	d.t.Helper()
	return pull(d.t.Context(), d.t, d.behind(ref))
}

// behind is ref without the proxy.
func (d *depths) behind(ref string) string {
	return strings.Replace(ref, d.proxy.Host, registry(d.t).Addr, 1)
}

// pushImage puts an image, or an index, past the proxy.
func (d *depths) pushImage(ref string, img any) {
	d.t.Helper()
	r, err := name.ParseReference(d.behind(ref), name.Insecure)
	if err != nil {
		d.t.Fatal(err)
	}
	switch img := img.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(r, img, remote.WithContext(d.t.Context()))
	case v1.Image:
		err = remote.Write(r, img, remote.WithContext(d.t.Context()))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// rawConfig is the config of an image as it is.
func rawConfig(t *testing.T, img v1.Image) []byte {
	t.Helper()
	raw, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// started counts steps that were run in a build with --progress json.
func started(out string, steps ...string) (ran []string) {
	for _, step := range steps {
		for line := range strings.Lines(out) {
			if strings.Contains(line, `"step-started"`) && strings.Contains(line, step) {
				ran = append(ran, step)
				break
			}
		}
	}
	return ran
}

// TestInlineCacheOnAnEmptyMachine holds what an inline cache is for: with nothing but the image that was pushed last, no step
// is run, no layer is read or sent, and the digest is that of the first build, by whatever name the image is given.
func TestInlineCacheOnAnEmptyMachine(t *testing.T) {
	t.Parallel()
	d := newCached(t)
	ref := d.destination("image")
	d.mustBuild("--destination", ref, "--destination", strings.TrimSuffix(ref, "1")+"latest", "--cache-to", "type=inline,mode=max")
	first := d.digestOf(ref)
	repository := strings.TrimSuffix(ref, ":1")
	for name, from := range map[string]string{
		"tag":                  ref,
		"with-its-type":        "type=registry,ref=" + ref,
		"digest":               repository + "@" + first.String(),
		"repository-is-latest": repository,
	} {
		d.emptyMachine()
		d.proxy.Reset()
		out := d.mustBuild("--destination", ref, "--cache-to", "type=inline", "--cache-from", from)
		if strings.Count(out, "CACHED") != 3 {
			t.Errorf("%s: not all steps of the last stage are cached:\n%s", name, out)
		}
		if got := d.digestOf(ref); got != first {
			t.Errorf("%s: the image from the cache is %s, want %s", name, got, first)
		}
		for _, l := range layerDigests(t, d.image(ref)) {
			if n := d.proxy.Count(http.MethodGet, "/blobs/"+l.String()); n != 0 {
				t.Errorf("%s: layer %s was read", name, l)
			}
		}
		// The empty layer of a step without changes is nobody's, and so small that it is sent.
		if sent := len(d.proxy.Seen(http.MethodPut, "/image/blobs/uploads/")); sent > 1 {
			t.Errorf("%s: %d blobs were sent:\n%s", name, sent, d.proxy.Log())
		}
		if n := d.proxy.Count(http.MethodGet, "/image/manifests/"); name == "tag" && n != 1 {
			t.Errorf("%d manifests were asked for, want that of the image alone:\n%s", n, d.proxy.Log())
		}
		d.notExtracted()
	}
}

// TestInlineCacheAfterAChange holds that a changed step is run, with those that depend on it, and that what is pushed then is
// a cache as good as the first; a build without cached steps comes to the same inline cache as one with them.
func TestInlineCacheAfterAChange(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "RUN echo early > /early\nCOPY app /app\nRUN wc -c < /app > /size\nRUN echo late > /late\n")
	ref := d.destination("image")
	cached := []string{"--destination", ref, "--cache-to", "type=inline", "--cache-from", ref, "--progress", "json"}
	steps := []string{"echo early", "COPY app", "wc -c", "echo late"}
	for i, tt := range []struct {
		app  string
		want []string // steps that run
	}{{"one", steps}, {"one", nil}, {"twos", steps[1:]}, {"twos", nil}} {
		d.emptyMachine()
		d.lay(map[string]string{"app": tt.app})
		out := d.mustBuild(cached...)
		if got := started(out, steps...); !slices.Equal(got, tt.want) {
			t.Errorf("build %d: steps %q ran, want %q\n%s", i, got, tt.want, out)
		}
		if got := files(t, d.image(ref))["app"]; got != tt.app {
			t.Errorf("build %d: app is %q", i, got)
		}
	}
	// What is found in the work directory, or in a repository, makes the same image.
	d.emptyMachine()
	args := []string{"--destination", ref, "--cache-to", "type=inline", "--cache-to", d.cacheDir(), "--cache-from", d.cacheDir()}
	d.mustBuild(args...)
	made := d.digestOf(ref)
	d.mustBuild(args...)
	if got := d.digestOf(ref); got != made {
		t.Errorf("from the work directory the image is %s, when it was made %s", got, made)
	}
	d.emptyMachine()
	d.mustBuild(args...)
	if got := d.digestOf(ref); got != made {
		t.Errorf("from a repository the image is %s, when it was made %s", got, made)
	}
}

// TestInlineCacheByContent holds that a step rebuilt to the same bytes lets those above it be found.
func TestInlineCacheByContent(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "")
	d.lay(map[string]string{"Dockerfile": "FROM " + d.base + " AS build\nCOPY app /src\nRUN wc -c < /src > /binary\n" +
		"FROM " + d.base + "\nCOPY --from=build /binary /binary\nRUN echo late >> /binary\n"})
	ref := d.destination("image")
	cached := []string{"--destination", ref, "--cache-to", "type=inline", "--cache-from", ref, "--progress", "json"}
	d.mustBuild(cached...)
	before := layerDigests(t, d.image(ref))
	d.emptyMachine()
	d.lay(map[string]string{"app": "two"}) // the same length: the same binary
	out := d.mustBuild(cached...)
	if got := started(out, "COPY app", "wc -c", "COPY --from", "echo late"); !slices.Equal(got, []string{"COPY app", "wc -c"}) {
		t.Errorf("steps %q ran\n%s", got, out)
	}
	if after := layerDigests(t, d.image(ref)); !slices.Equal(before, after) {
		t.Errorf("layers %v, want %v", after, before)
	}
}

// TestInlineCacheBuildArg holds BuildKit's older way of asking, and that nobody gets what he has not asked for.
func TestInlineCacheBuildArg(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "COPY app /app\n")
	for value, want := range map[string]bool{"BUILDKIT_INLINE_CACHE=1": true, "BUILDKIT_INLINE_CACHE=0": false, "OTHER=1": false} {
		ref := d.destination(strings.ToLower(strings.ReplaceAll(value, "=", "-")))
		d.mustBuild("--destination", ref, "--build-arg", value)
		if got := strings.Contains(string(rawConfig(t, d.image(ref))), inlineField); got != want {
			t.Errorf("%s: the config has an inline cache: %v, want %v", value, got, want)
		}
	}
}

// TestInlineCacheTellsNoSecrets holds that the field has nothing but hashes, numbers and switches.
func TestInlineCacheTellsNoSecrets(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "ARG PASSWORD\nRUN --mount=type=secret,id=s cat /run/secrets/s >/dev/null; echo $PASSWORD | wc -c > /n\n")
	ref := d.destination("image")
	d.env = append(d.env, "S=hunter2")
	d.mustBuild("--destination", ref, "--cache-to", "type=inline", "--secret", "id=s,env=S", "--build-arg", "PASSWORD=hunter3")
	var config map[string]json.RawMessage
	if err := json.Unmarshal(rawConfig(t, d.image(ref)), &config); err != nil {
		t.Fatal(err)
	}
	field := string(config[inlineField])
	if !strings.Contains(field, `"definition"`) || strings.Contains(field, "hunter") || strings.Contains(field, "PASSWORD") {
		t.Errorf("the inline cache is %s", field)
	}
}

// TestInlineCacheExpires holds that the age of a result counts from when its step ran, however often the image was pushed since.
func TestInlineCacheExpires(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "RUN date +%s%N > /date\n")
	ref := d.destination("image")
	cached := []string{"--destination", ref, "--cache-to", "type=inline", "--cache-from", ref}
	d.mustBuild(cached...)
	made := time.Now()
	d.emptyMachine()
	d.mustBuild(cached...)
	d.emptyMachine()
	// The first build is older than that, and the second may not be.
	ttl := time.Since(made)
	out := d.mustBuild(append(cached, "--cache-ttl", ttl.String(), "--explain-cache")...)
	if strings.Contains(out, "CACHED") || !strings.Contains(out, "the cache entry is ") {
		t.Errorf("a result that is older than %v was used:\n%s", ttl, out)
	}
}

// TestInlineCacheOfAnEpoch holds that an image with a fixed time has the same digest wherever it is built, with an inline
// cache too; as old as that time are its results.
func TestInlineCacheOfAnEpoch(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "WORKDIR /work\nRUN echo made > made\n")
	first, second := d.destination("first"), d.destination("second")
	d.env = append(d.env, "SOURCE_DATE_EPOCH=1600000000")
	args := []string{"--rewrite-timestamp", "--cache-to", "type=inline", "--destination"}
	out := d.mustBuild(append(args, first)...)
	if !strings.Contains(out, "as old as SOURCE_DATE_EPOCH") {
		t.Errorf("it is not said that nobody will use the cache:\n%s", out)
	}
	d.emptyMachine()
	d.mustBuild(append(args, second)...)
	if a, b := d.digestOf(first), d.digestOf(second); a != b {
		t.Errorf("the images are %s and %s", a, b)
	}
	d.emptyMachine()
	out = d.mustBuild(append(args, second, "--cache-from", first, "--cache-ttl", "999999h")...)
	if strings.Count(out, "CACHED") != 2 || d.digestOf(second) != d.digestOf(first) || strings.Contains(out, "as old as") {
		t.Errorf("the image is %s:\n%s", d.digestOf(second), out)
	}
}

// TestInlineCacheOfAnIndex holds that each platform's image is looked at, and that one of the same platform is preferred.
func TestInlineCacheOfAnIndex(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "")
	d.lay(map[string]string{"Dockerfile": "FROM scratch\nARG TARGETARCH\nCOPY app /app\nCOPY --chmod=700 app /$TARGETARCH\n"})
	index := d.destination("index")
	platforms := []string{"linux/arm64", "linux/amd64"}
	var list []mutate.IndexAddendum
	digests := map[string]v1.Hash{}
	for _, p := range platforms {
		ref := d.destination(path(p))
		d.mustBuild("--destination", ref, "--cache-to", "type=inline", "--platform", p)
		d.emptyMachine() // or one would be made with steps of the other
		img := d.image(ref)
		digests[p] = d.digestOf(ref)
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
	}
	attestation, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, mutate.IndexAddendum{Add: attestation, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	d.pushImage(index, mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), list...))
	for _, p := range platforms {
		d.emptyMachine()
		ref := d.destination("again")
		out := d.mustBuild("--destination", ref, "--cache-to", "type=inline", "--cache-from", index, "--platform", p)
		if strings.Count(out, "CACHED") != 2 {
			t.Errorf("%s: not all steps are cached:\n%s", p, out)
		}
		if got := d.digestOf(ref); got != digests[p] {
			t.Errorf("%s: image %s, want %s", p, got, digests[p])
		}
	}
	// What one platform's image has is of use to others where it does not depend on the platform.
	d.emptyMachine()
	out := d.mustBuild("--destination", d.destination("third"), "--cache-from", index, "--platform", "linux/s390x")
	if strings.Count(out, "CACHED") != 1 {
		t.Errorf("not one step is cached:\n%s", out)
	}
}

// TestInlineCacheThatIsNone holds that what is no image with an inline cache is none, in peace where that is no fault, and with
// one warning otherwise.
func TestInlineCacheThatIsNone(t *testing.T) {
	t.Parallel()
	const steps = "RUN echo one > /one\nRUN echo two > /two\nRUN echo three > /three\n"
	config := func(d *depths, ref string) string {
		c, err := d.image(ref).ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		return c.String()
	}
	for name, tt := range map[string]struct {
		prepare func(d *depths, ref string)
		say     string
	}{
		"no-image": {func(d *depths, ref string) { d.untag(ref) }, ""},
		"no-field": {func(d *depths, ref string) { d.mustBuild("--destination", ref) }, ""},
		"no-inline-repository": {func(d *depths, ref string) {
			d.proxy.Inject(registrytest.Times(1<<30, http.MethodGet, "/image/manifests/", registrytest.Status(http.StatusNotFound)))
		}, ""},
		"forbidden": {func(d *depths, ref string) {
			d.proxy.Inject(registrytest.Times(1<<30, http.MethodGet, "/image/manifests/", registrytest.Status(http.StatusForbidden)))
		}, "403"},
		"config-is-corrupt": {func(d *depths, ref string) {
			d.proxy.Inject(registrytest.Times(1<<30, http.MethodGet, "/blobs/"+config(d, ref), registrytest.Corrupt()))
		}, "digest"},
		"config-is-gone": {func(d *depths, ref string) {
			d.proxy.Inject(registrytest.Times(1<<30, http.MethodGet, "/blobs/"+config(d, ref), registrytest.Status(http.StatusNotFound)))
		}, ""},
		"field-is-none-of-ours": {func(d *depths, ref string) { d.rewriteConfig(ref, `"steps":[`, `"sleps":[`) }, "decode inline cache"},
		"key-is-none":           {func(d *depths, ref string) { d.rewriteConfig(ref, `"definition":"`, `"definition":"x`) }, "decode inline cache"},
		"of-other-layers": {func(d *depths, ref string) {
			img, err := mutate.AppendLayers(d.image(ref), layerOf(t, map[string]string{"a": "b"}))
			if err != nil {
				t.Fatal(err)
			}
			// As tools do that change a config without knowing all of it.
			var config, field map[string]json.RawMessage
			if err := json.Unmarshal(rawConfig(t, img), &config); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(rawConfig(t, d.image(ref)), &field); err != nil {
				t.Fatal(err)
			}
			config[inlineField] = field[inlineField]
			raw, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			d.pushImage(ref, withRawConfig{img, raw})
		}, "other layers"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDepths(t, steps)
			ref := d.destination("image")
			d.mustBuild("--destination", ref, "--cache-to", "type=inline")
			tt.prepare(d, ref)
			d.emptyMachine()
			out := d.mustBuild("--destination", d.destination("again"), "--cache-from", ref, "--push-retry", "1")
			warnings := strings.Count(strings.ToLower(out), "warning")
			switch {
			case strings.Contains(out, "CACHED"):
				t.Errorf("a step is cached:\n%s", out)
			case tt.say == "" && warnings > 0:
				t.Errorf("there is a warning:\n%s", out)
			case !strings.Contains(out, tt.say) || warnings > 4: // three of the image, one of the repository
				t.Errorf("%d warnings, want %q once:\n%s", warnings, tt.say, out)
			}
		})
	}
}

// withRawConfig is an image with another config.
type withRawConfig struct {
	v1.Image
	config []byte
}

func (w withRawConfig) RawConfigFile() ([]byte, error) {
	return w.config, nil
}

func (w withRawConfig) RawManifest() ([]byte, error) {
	m, err := w.Manifest()
	if err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

func (w withRawConfig) Manifest() (*v1.Manifest, error) {
	m, err := w.Image.Manifest()
	if err != nil {
		return nil, err
	}
	m = m.DeepCopy()
	m.Config.Digest, m.Config.Size, err = v1.SHA256(strings.NewReader(string(w.config)))
	return m, err
}

func (w withRawConfig) Digest() (v1.Hash, error) { return partial.Digest(w) }
func (w withRawConfig) Size() (int64, error)     { return partial.Size(w) }

func (w withRawConfig) ConfigName() (v1.Hash, error) {
	m, err := w.Manifest()
	return m.Config.Digest, err
}

// rewriteConfig puts an image in place of ref with other words in its config, with a digest that is right.
func (d *depths) rewriteConfig(ref, from, to string) {
	d.t.Helper()
	img := d.image(ref)
	raw := string(rawConfig(d.t, img))
	if !strings.Contains(raw, from) {
		d.t.Fatalf("no %q in %s", from, raw)
	}
	d.pushImage(ref, withRawConfig{img, []byte(strings.ReplaceAll(raw, from, to))})
}

// untag removes what ref names.
func (d *depths) untag(ref string) {
	d.t.Helper()
	r, err := name.ParseReference(d.behind(ref), name.Insecure)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := remote.Delete(r.Context().Digest(d.digestOf(ref).String()), remote.WithContext(d.t.Context())); err != nil {
		d.t.Fatal(err)
	}
}

// TestInlineCacheLosesALayer holds that a layer that was collected, or damaged, costs a run of its step and no more.
func TestInlineCacheLosesALayer(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]registrytest.Fault{
		"collected": registrytest.Status(http.StatusNotFound), "corrupt": registrytest.Corrupt(),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDepths(t, "RUN head -c 100000 /dev/urandom > /one\nCOPY app /app\nRUN cat /one /app > /two\n")
			ref := d.destination("image")
			d.mustBuild("--destination", ref, "--cache-to", "type=inline")
			d.emptyMachine()
			d.lay(map[string]string{"app": "two"})
			d.proxy.Inject(registrytest.Times(1<<30, http.MethodGet, "/blobs/"+layerDigests(t, d.image(ref))[2].String(), fault))
			out := d.mustBuild("--push-retry", "1", "--destination", ref, "--cache-to", "type=inline", "--cache-from", ref)
			if got := files(t, d.image(ref)); !strings.Contains(out, "made anew") || got["app"] != "two" || got["two"] == "" {
				t.Errorf("the image has %q and %q:\n%s", got["app"], got["two"], out)
			}
		})
	}
}

// TestInlineCacheBesideARepository holds that what an image does not have is found among the results in its repository: those
// of stages that are not in the image.
func TestInlineCacheBesideARepository(t *testing.T) {
	t.Parallel()
	d := newCached(t)
	ref := d.destination("image")
	both := []string{"--destination", ref, "--cache-to", "type=inline", "--cache-to", ref, "--cache-from", ref, "--progress", "json"}
	d.mustBuild(both...)
	d.emptyMachine()
	file := "FROM " + d.base + "\n" + strings.ReplaceAll(stages, "{{base}}", d.base)
	d.lay(map[string]string{"Dockerfile": strings.Replace(file, "COPY --from=0 /out /out", "COPY --from=0 /out /elsewhere", 1)})
	out := d.mustBuild(both...)
	if got := started(out, "echo made", "WORKDIR", "COPY app app", "RUN rm", "COPY --from", "RUN true"); !slices.Equal(got, []string{"COPY --from", "RUN true"}) {
		t.Errorf("steps %q ran\n%s", got, out)
	}
}

// TestOthersReadAnImageWithAnInlineCache holds that the field is nobody's trouble, in either family of media types.
func TestOthersReadAnImageWithAnInlineCache(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"oci", "docker"} {
		d := newDepths(t, "COPY app /app\nCMD [\"cat\", \"/app\"]\n")
		ref := d.destination("image-" + format)
		d.mustBuild("--destination", ref, "--cache-to", "type=inline", "--image-format", format)
		layout, archive := filepath.Join(d.dir, "layout"), filepath.Join(d.dir, "archive.tar")
		for _, to := range []string{"oci:" + layout + ":1", "docker-archive:" + archive + ":name:1"} {
			cmd := exec.CommandContext(t.Context(), "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "docker://"+d.behind(ref), to)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("skopeo copy to %s: %v\n%s", to, err, out)
			}
		}
		engine := docker(t)
		if out, err := engine.Command(t.Context(), "load", "--input", archive).CombinedOutput(); err != nil {
			t.Fatalf("docker load: %v\n%s", err, out)
		}
		if out, err := engine.Output(t.Context(), "run", "--rm", "--network", "none", "name:1"); err != nil || strings.TrimSpace(out) != "one" {
			t.Errorf("docker run: %q, %v", out, err)
		}
		// BuildKit and gobuild build on it, and what they build does not inherit a cache of other steps.
		next := newSite(t, map[string]string{"Dockerfile": "FROM " + d.behind(ref) + "\nLABEL a=b\n"})
		child := fmt.Sprintf("%s-%s", repo(t, "child"), format)
		next.mustBuild("--destination", child)
		if raw := string(rawConfig(t, pull(t.Context(), t, child))); strings.Contains(raw, inlineField) {
			t.Errorf("the image above has the cache of the one below: %s", raw)
		}
	}
}
