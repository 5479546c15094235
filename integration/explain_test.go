package integration

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// anotherMachine takes away what earlier builds have left here, and puts the context into another directory.
func (d *depths) anotherMachine() {
	d.t.Helper()
	d.emptyMachine()
	dir, err := os.MkdirTemp(d.dir, "machine-")
	if err != nil {
		d.t.Fatal(err)
	}
	elsewhere := filepath.Join(dir, "context")
	if err := os.Rename(d.context, elsewhere); err != nil {
		d.t.Fatal(err)
	}
	d.context = elsewhere
}

// reasons are what --explain-cache says, without references and digests, which are different each time.
func (d *depths) reasons(out string) (list []string) {
	digests := regexp.MustCompile(`(@?sha256:)[0-9a-f]+`)
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.Contains(line, " is not in the cache: ") {
			list = append(list, digests.ReplaceAllString(strings.ReplaceAll(line, d.base, "BASE"), "${1}..."))
		}
	}
	slices.Sort(list)
	return list
}

// explained has a stage that is made of files, and one that is made of what that comes to.
const explained = `FROM {{base}} AS build
ARG VERSION=1
RUN echo $VERSION > /version
COPY src /src
RUN --mount=source=conf,target=/conf cat /src/* /conf > /out
FROM {{base}}
COPY --from=build /out /out
RUN echo done >> /out
`

// renewBase lets the tag of the base name another image.
func (d *depths) renewBase() {
	d.t.Helper()
	layers, err := pull(d.t.Context(), d.t, busybox(d.t)).Layers()
	if err != nil {
		d.t.Fatal(err)
	}
	img, err := parts.Image(layers[0], layerOf(d.t, map[string]string{"new": "base"}))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := parts.Push(d.t.Context(), d.behind(d.base), img); err != nil {
		d.t.Fatal(err)
	}
}

func newExplained(t *testing.T) *depths {
	d := newDepths(t, "")
	d.lay(map[string]string{
		"Dockerfile": strings.ReplaceAll(explained, "{{base}}", d.base), "src/a": "a", "src/b": "b", "conf": "c",
	})
	return d
}

func (d *depths) edit(from, to string) func() {
	return func() {
		d.t.Helper()
		name := filepath.Join(d.context, "Dockerfile")
		data, err := os.ReadFile(name)
		if err != nil {
			d.t.Fatal(err)
		}
		if !strings.Contains(string(data), from) {
			d.t.Fatalf("no %q in %s", from, data)
		}
		d.lay(map[string]string{"Dockerfile": strings.Replace(string(data), from, to, 1)})
	}
}

// TestExplainOnAnEmptyMachine holds that a machine that has nothing but the cache names the first step of each stage that is not
// in it and what has changed since any machine built it last.
func TestExplainOnAnEmptyMachine(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(d *depths) []string{
		"registry": func(d *depths) []string { return []string{"--cache-from", d.cacheDir(), "--cache-to", d.cacheDir()} },
		"directory": func(d *depths) []string {
			dir := filepath.Join(d.dir, "cache")
			return []string{"--cache-from", "type=local,src=" + dir, "--cache-to", "type=local,dest=" + dir}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newExplained(t)
			args := append(place(d), "--no-push", "--explain-cache")
			change := func(files map[string]string) func() { return func() { d.lay(files) } }
			for _, tt := range []struct {
				name   string
				change func()
				args   []string
				want   []string
			}{
				{"first-build", func() {}, nil, []string{
					"[build 2/4] RUN echo 1 > /version is not in the cache: no earlier build of this step is known",
					"[stage-1 2/3] COPY --from=build /out /out is not in the cache: no earlier build of this step is known",
				}},
				{"nothing", func() {}, nil, nil},
				{"file", change(map[string]string{"src/b": "B"}), nil, []string{
					"[build 3/4] COPY src /src is not in the cache: src/b has changed",
					"[stage-1 2/3] COPY --from=build /out /out is not in the cache: " +
						"[build 4/4] RUN --mount=source=conf,target=/conf cat /src/* /conf > /out has changed",
				}},
				{"nothing-again", func() {}, nil, nil},
				{"files-are-new", change(map[string]string{"src/c": "c", "src/d": "d"}), nil, []string{
					"[build 3/4] COPY src /src is not in the cache: src/c is new, and 1 more",
					"[stage-1 2/3] COPY --from=build /out /out is not in the cache: " +
						"[build 4/4] RUN --mount=source=conf,target=/conf cat /src/* /conf > /out has changed",
				}},
				{"mounted-file", change(map[string]string{"conf": "C"}), nil, []string{
					"[build 4/4] RUN --mount=source=conf,target=/conf cat /src/* /conf > /out is not in the cache: " +
						"what is mounted at /conf has changed",
					"[stage-1 2/3] COPY --from=build /out /out is not in the cache: " +
						"[build 4/4] RUN --mount=source=conf,target=/conf cat /src/* /conf > /out has changed",
				}},
				{"command", d.edit("echo done", "echo finished"), nil, []string{
					"[stage-1 3/3] RUN echo finished >> /out is not in the cache: the command has changed",
				}},
				{"further-step", d.edit("finished >> /out\n", "finished >> /out\nRUN echo more >> /out\n"), nil, []string{
					"[stage-1 4/4] RUN echo more >> /out is not in the cache: no earlier build of this step is known",
				}},
				{"base", func() { d.renewBase() }, nil, []string{
					"[build 2/4] RUN echo 1 > /version is not in the cache: the base image has changed, " +
						"from BASE@sha256:... to BASE@sha256:...",
					"[stage-1 2/4] COPY --from=build /out /out is not in the cache: the base image has changed, " +
						"from BASE@sha256:... to BASE@sha256:..., and 1 more",
				}},
				// The layer of the step comes to other bytes, so those that follow are not found by them.
				{"argument", func() {}, []string{"--build-arg", "VERSION=2"}, []string{
					"[build 2/4] RUN echo 2 > /version is not in the cache: the variable VERSION has changed",
				}},
				{"argument-is-back", func() {}, nil, nil},
				{"step-is-gone", d.edit("RUN echo more >> /out\n", ""), nil, nil},
			} {
				d.anotherMachine()
				tt.change()
				out := d.mustBuild(slices.Concat(args, tt.args)...)
				if got := d.reasons(out); !slices.Equal(got, tt.want) {
					t.Errorf("%s:\n%s\nwant\n%s\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"), out)
				}
			}
		})
	}
}

// TestExplainWhatIsTooOld holds that a result that is in the cache and too old is said to be that.
func TestExplainWhatIsTooOld(t *testing.T) {
	t.Parallel()
	d := newExplained(t)
	args := []string{"--cache-from", d.cacheDir(), "--cache-to", d.cacheDir(), "--no-push", "--explain-cache"}
	d.mustBuild(args...)
	made := time.Now()
	d.anotherMachine()
	out := d.mustBuild(append(args, "--cache-ttl", time.Since(made).String())...)
	got := d.reasons(out)
	if len(got) != 2 || !strings.HasPrefix(got[0], "[build 2/4] RUN echo 1 > /version is not in the cache: the cache entry is ") ||
		!strings.HasPrefix(got[1], "[stage-1 2/3] COPY --from=build /out /out is not in the cache: the cache entry is ") {
		t.Errorf("%s\n%s", strings.Join(got, "\n"), out)
	}
}

// TestExplainCostsNothingOtherwise holds that what explains is read by those alone who ask, and only when something is missing; and
// that it is written once by a build that has made something, and by no other.
func TestExplainCostsNothingOtherwise(t *testing.T) {
	t.Parallel()
	d := newExplained(t)
	args := []string{"--cache-from", d.cacheDir(), "--cache-to", d.cacheDir(), "--no-push"}
	for _, tt := range []struct {
		name          string
		explain       bool
		change        map[string]string
		read, written int
	}{
		{name: "first-build", written: 1},
		{name: "all-is-there"},
		{name: "all-is-there-and-explained", explain: true},
		{name: "changed", change: map[string]string{"src/a": "2"}, written: 1},
		{name: "changed-and-explained", explain: true, change: map[string]string{"src/a": "3"}, read: 1, written: 1},
	} {
		d.anotherMachine()
		d.lay(tt.change)
		d.proxy.Reset()
		more := args
		if tt.explain {
			more = append(slices.Clip(args), "--explain-cache")
		}
		d.mustBuild(more...)
		read, written := d.proxy.Count(http.MethodGet, "/manifests/note-"), d.proxy.Count(http.MethodPut, "/manifests/note-")
		if read != tt.read || written != tt.written {
			t.Errorf("%s: read %d times, written %d times; want %d and %d:\n%s", tt.name, read, written, tt.read, tt.written, d.proxy.Log())
		}
	}
}

// TestExplainAfterAFailure holds that a build that fails does not make others forget what the last good one was made of.
func TestExplainAfterAFailure(t *testing.T) {
	t.Parallel()
	d := newExplained(t)
	args := []string{"--cache-from", d.cacheDir(), "--cache-to", d.cacheDir(), "--no-push", "--explain-cache"}
	d.mustBuild(args...)
	d.anotherMachine()
	d.edit("echo done", "false")()
	d.mustFail([]string{"RUN false"}, args...)
	d.anotherMachine()
	d.edit("false >> /out", "true >> /out")()
	want := []string{"[stage-1 3/3] RUN true >> /out is not in the cache: the command has changed"}
	if got := d.reasons(d.mustBuild(args...)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestExplainInTrouble holds that what explains is no reason to fail, and that its trouble is told once.
func TestExplainInTrouble(t *testing.T) {
	t.Parallel()
	const unknown, known = "no earlier build of this step is known", "src/a has changed"
	for name, tt := range map[string]struct {
		method   string
		status   int
		warnings int
		want     string
	}{
		"gone":        {http.MethodGet, http.StatusNotFound, 0, unknown},
		"error":       {http.MethodGet, http.StatusInternalServerError, 1, unknown},
		"not-written": {http.MethodPut, http.StatusInternalServerError, 1, known},
	} {
		t.Run(name, func(t *testing.T) {
			d := newExplained(t)
			args := []string{"--cache-from", d.cacheDir(), "--cache-to", d.cacheDir(), "--no-push", "--explain-cache", "--push-retry", "1"}
			d.mustBuild(args...)
			d.anotherMachine()
			d.lay(map[string]string{"src/a": "2"})
			d.proxy.Inject(registrytest.Times(1<<30, tt.method, "/manifests/note-", registrytest.Status(tt.status)))
			out := d.mustBuild(args...)
			if n := strings.Count(out, "WARNING"); n != tt.warnings || !strings.Contains(out, "COPY src /src is not in the cache: "+tt.want) {
				t.Errorf("%d warnings, want %d, and %q:\n%s", n, tt.warnings, tt.want, out)
			}
		})
	}
}

// TestExplainTellsNoSecrets holds that what is kept for explanations has no value of a variable, a file or a secret in it.
func TestExplainTellsNoSecrets(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "ARG PASSWORD\nCOPY app /app\nRUN --mount=type=secret,id=s cat /run/secrets/s >/dev/null; echo $PASSWORD | wc -c > /n\n")
	dir := filepath.Join(d.dir, "cache")
	d.env = append(d.env, "S=hunter2")
	d.lay(map[string]string{"app": "hunter4"})
	d.mustBuild("--no-push", "--cache-to", "type=local,dest="+dir, "--secret", "id=s,env=S", "--build-arg", "PASSWORD=hunter3")
	notes, err := filepath.Glob(filepath.Join(dir, "notes", "*"))
	if err != nil || len(notes) != 1 {
		t.Fatalf("%d notes, %v", len(notes), err)
	}
	data, err := os.ReadFile(notes[0])
	if err != nil {
		t.Fatal(err)
	}
	text := unzipped(t, data[sha256.Size:])
	if !strings.Contains(text, "PASSWORD") || strings.Contains(text, "hunter") {
		t.Errorf("the note is %s", text)
	}
}

func unzipped(t *testing.T, data []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
