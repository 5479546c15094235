package solve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// world is where the builds of a test happen: a context, bases, a cache in memory, and a driver that runs no
// processes but plays what their command lines say, so that tests can watch and steer the scheduling.
type world struct {
	t       *testing.T
	context string
	bases   map[string]v1.Image
	store   memoryCache
	driver  *scriptDriver
	events  eventList
	early   layerList
	// finished and known, when not nil, are called by those of Options.
	finished func(ctx context.Context) error
	known    func(ctx context.Context, r Result) error
	// choosing is called while the driver is chosen, and likely is that of Options.
	choosing func(ctx context.Context) error
	likely   func() sandbox.Driver
	mounts   Mounts
	sources  map[string]Source // by URL

	records       Records
	share         func(map[string]json.RawMessage)
	ttl           time.Duration
	noCacheFilter []string
	clamp         time.Time
	epoch         time.Time
}

func newWorld(t *testing.T, files map[string]string) *world {
	w := &world{t: t, context: t.TempDir(), bases: map[string]v1.Image{}, driver: newScriptDriver()}
	for name, data := range files {
		w.write(name, data)
	}
	return w
}

func (w *world) write(name, data string) {
	w.t.Helper()
	path := filepath.Join(w.context, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// Base implements plan.Bases.
func (w *world) Base(_ context.Context, ref string, _ v1.Platform) (plan.Base, error) {
	img, ok := w.bases[ref]
	if !ok {
		return plan.Base{}, fmt.Errorf("no image %q", ref)
	}
	digest, err := img.Digest()
	if err != nil {
		return plan.Base{}, err
	}
	raw, err := img.RawConfigFile()
	return plan.Base{Digest: digest, Config: raw}, err
}

// build builds and returns the layers of the image, and the steps that ran, by their names.
func (w *world) build(ctx context.Context, text string) ([]Layer, []string, error) {
	w.t.Helper()
	file, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	linux := v1.Platform{OS: "linux", Architecture: "amd64"}
	p, err := plan.New(ctx, file, plan.Options{Platforms: []v1.Platform{linux}, BuildPlatform: linux, Bases: w, NoCacheFilter: w.noCacheFilter})
	if err != nil {
		w.t.Fatal(err)
	}
	tree, err := rootfs.Dir(w.context)
	if err != nil {
		w.t.Fatal(err)
	}
	w.events.reset()
	results, err := Solve(ctx, Options{
		Plan:    p,
		Context: tree,
		Image:   func(_ context.Context, op plan.Pull, _ v1.Platform) (v1.Image, error) { return w.bases[op.Ref], nil },
		Cache:   cache.Expire(&w.store, cmp.Or(w.ttl, 1<<62)),
		Mounts:  w.mounts,

		Records: w.records,
		Explain: w.records != nil,
		Share:   w.share,
		Source: func(_ context.Context, op plan.Op) (Source, error) {
			return w.sources[op.(plan.HTTP).URL], nil
		},
		Driver: func(ctx context.Context) (sandbox.Driver, error) {
			if w.choosing != nil {
				return w.driver, w.choosing(ctx)
			}
			return w.driver, nil
		},
		Likely: w.likely,
		Layer:  snapshot.Options{Dir: w.t.TempDir(), Clamp: w.clamp},
		Finished: func(ctx context.Context, _ *plan.Step, l v1.Layer) error {
			w.early.add(l)
			if w.finished != nil {
				return w.finished(ctx)
			}
			return nil
		},
		Known:    w.known,
		Progress: &w.events,
		Epoch:    w.epoch,
	})
	if err != nil {
		return nil, w.events.started(), err
	}
	return results[0].Layers, w.events.started(), nil
}

func (w *world) mustBuild(text string) ([]Layer, []string) {
	w.t.Helper()
	layers, ran, err := w.build(w.t.Context(), text)
	if err != nil {
		w.t.Fatal(err)
	}
	return layers, ran
}

func TestSecondBuildRunsNothing(t *testing.T) {
	w := newWorld(t, map[string]string{"src/a": "1"})
	text := "FROM scratch AS b\nCOPY src /src\nRUN put /out x\nFROM scratch\nWORKDIR /w\nCOPY --from=b /out /out\nRUN none\n"
	first, ran := w.mustBuild(text)
	if len(ran) != 5 {
		t.Errorf("first build ran %q, want all 5 steps", ran)
	}
	opened := w.driver.opened
	second, ran := w.mustBuild(text)
	if len(ran) != 0 || w.driver.opened != opened {
		t.Errorf("second build ran %q and opened %d roots", ran, w.driver.opened-opened)
	}
	if !slices.Equal(digests(t, first), digests(t, second)) {
		t.Errorf("layers differ between first and cached build: %v, %v", digests(t, first), digests(t, second))
	}
	for i := range first {
		if !first[i].Created.Equal(second[i].Created) {
			t.Errorf("layer %d was created at another time in the cached build", i)
		}
	}
}

func TestCachedCopyFromDoesNotTouchItsStage(t *testing.T) {
	w := newWorld(t, nil)
	text := "FROM scratch AS b\nRUN put /out x\nFROM scratch\nCOPY --from=b /out /out\n"
	w.mustBuild(text)
	w.store.forget(func(e cache.Entry) bool { return strings.Contains(e.Step, "RUN") })
	if _, ran := w.mustBuild(text); len(ran) != 0 {
		t.Errorf("ran %q though only a cached COPY needs that stage", ran)
	}
}

func TestStepRebuiltToSameBytesLetsTheRestHit(t *testing.T) {
	w := newWorld(t, map[string]string{"main.go": "1"})
	text := "FROM scratch AS b\nCOPY main.go /\nRUN put /out same\nFROM scratch\nCOPY --from=b /out /out\nRUN after\n"
	w.mustBuild(text)
	w.write("main.go", "2")
	_, ran := w.mustBuild(text)
	for _, name := range ran {
		if strings.Contains(name, "--from") || strings.Contains(name, "after") {
			t.Errorf("ran %q though what it sees did not change", name)
		}
	}
	if len(ran) != 2 {
		t.Errorf("ran %q, want the first COPY and RUN", ran)
	}
}

func TestEntryMadeOnOtherLayersIsAMiss(t *testing.T) {
	w := newWorld(t, nil)
	text := "FROM scratch\nRUN counter /n\nRUN after\n"
	w.mustBuild(text)
	// The first step's entry is gone, and running it anew gives other bytes than those that the
	// second step's entry was made on.
	w.store.forget(func(e cache.Entry) bool { return strings.Contains(e.Step, "counter") })
	if _, ran := w.mustBuild(text); len(ran) != 2 {
		t.Errorf("ran %q, want both steps", ran)
	}
}

func TestStagesRunAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Each process ends only when the other one has begun.
	_, _, err := w.build(ctx, `FROM scratch AS a
RUN meet 2 /a
FROM scratch AS b
RUN meet 2 /b
FROM scratch
COPY --from=a /a /a
COPY --from=b /b /b
`)
	if err != nil {
		t.Error(err)
	}
}

func TestNextProcessDoesNotWaitForTheLayerBelow(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// The contents of the first step's file can be read only once the second step has run.
	if _, _, err := w.build(ctx, "FROM scratch\nRUN slow /a\nRUN release\n"); err != nil {
		t.Error(err)
	}
}

// TestResultIsKnownBeforeItsLayersAreHandedOver holds that nothing waits for the slowest upload but what needs it: neither the
// config of the image, nor the roots, which are not needed any more.
func TestResultIsKnownBeforeItsLayersAreHandedOver(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	known := make(chan int, 1)
	w.known = func(_ context.Context, r Result) error {
		known <- len(r.Layers)
		return nil
	}
	w.finished = func(ctx context.Context) error {
		select {
		case n := <-known:
			if known <- n; n != 2 {
				t.Errorf("%d layers are known", n)
			}
		case <-ctx.Done():
			return errors.New("the result is not known")
		}
		return w.driver.allClosed(ctx)
	}
	if _, _, err := w.build(ctx, "FROM scratch\nRUN put /a 1\nRUN put /b 2\n"); err != nil {
		t.Error(err)
	}
}

// TestRootIsOpenedWhileTheDriverIsChosen holds that extracting a base does not wait for a probe.
func TestRootIsOpenedWhileTheDriverIsChosen(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w.likely = func() sandbox.Driver { return w.driver }
	w.choosing = w.driver.someOpen
	if _, _, err := w.build(ctx, "FROM scratch\nRUN put /a 1\nRUN put /b 2\n"); err != nil {
		t.Error(err)
	}
	if w.driver.opened != 1 || w.driver.open() != 0 {
		t.Errorf("%d roots were opened, of which %d are open", w.driver.opened, w.driver.open())
	}
}

// TestOtherDriverIsChosen holds that what was begun with a driver that does not work leaves nothing, whether one that does is found
// or not.
func TestOtherDriverIsChosen(t *testing.T) {
	none := errors.New("nothing can run steps here")
	for _, want := range []error{nil, none} {
		w := newWorld(t, nil)
		other := newScriptDriver()
		w.likely = func() sandbox.Driver { return other }
		w.choosing = func(ctx context.Context) error { return errors.Join(other.someOpen(ctx), want) }
		if _, _, err := w.build(t.Context(), "FROM scratch\nRUN put /a 1\n"); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if other.opened != 1 || other.open() != 0 || len(other.ran) != 0 {
			t.Errorf("the other driver has %d of %d roots open and ran %d processes", other.open(), other.opened, len(other.ran))
		}
		if ran := len(w.driver.ran); want == nil && ran != 1 {
			t.Errorf("%d processes ran", ran)
		}
	}
}

// TestRefusedResultEndsTheBuild holds that an error of handing over is one of the build.
func TestRefusedResultEndsTheBuild(t *testing.T) {
	w := newWorld(t, nil)
	refused := errors.New("refused")
	w.known = func(context.Context, Result) error { return refused }
	if _, _, err := w.build(t.Context(), "FROM scratch\nRUN put /a 1\n"); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

func TestFailureNamesTheStepAndEndsTheOthers(t *testing.T) {
	w := newWorld(t, nil)
	_, _, err := w.build(t.Context(), `FROM scratch AS a
RUN forever
FROM scratch AS b
RUN fail 3
FROM scratch
COPY --from=a /a /a
COPY --from=b /b /b
`)
	var step *StepError
	if !errors.As(err, &step) || step.Step.Source.Line != 4 {
		t.Fatalf("error %v, want that of line 4", err)
	}
	var exit *sandbox.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("error %v does not carry exit code 3", err)
	}
	if want := "Dockerfile:4: RUN fail 3: process"; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %q, want it to begin with %q", err, want)
	}
	if !slices.Contains(step.Output, "last words") {
		t.Errorf("output %q lacks what the process wrote", step.Output)
	}
	if w.driver.open() != 0 {
		t.Errorf("%d roots are still open", w.driver.open())
	}
}

func TestInterruptEndsTheBuild(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop here")
	w.driver.began = func(string) { cancel(stop) }
	if _, _, err := w.build(ctx, "FROM scratch\nRUN forever\n"); !errors.Is(err, stop) {
		t.Errorf("error %v, want the cause of the context's end", err)
	}
}

func TestMissingSourceNamesItsLine(t *testing.T) {
	w := newWorld(t, nil)
	_, _, err := w.build(t.Context(), "FROM scratch\nRUN none\nCOPY nothing /\n")
	if err == nil || !strings.HasPrefix(err.Error(), "Dockerfile:3: COPY nothing /: ") {
		t.Errorf("error %v", err)
	}
}

func TestTwoStagesOnOneRun(t *testing.T) {
	w := newWorld(t, nil)
	layers, _ := w.mustBuild(`FROM scratch AS base
RUN put /shared x
FROM base AS a
RUN put /a x
FROM base AS b
RUN put /b x
FROM a
COPY --from=b /b /b
`)
	if len(layers) != 3 {
		t.Errorf("%d layers, want 3", len(layers))
	}
}

func TestBaseLayersAreNotRead(t *testing.T) {
	w := newWorld(t, map[string]string{"f": "x"})
	img, err := mutate.AppendLayers(empty.Image, unreadable{})
	if err != nil {
		t.Fatal(err)
	}
	w.bases["docker.io/library/base:latest"] = img
	// A linked copy depends on nothing below it, and metadata has no files.
	layers, _ := w.mustBuild("FROM base\nENV a=b\nCOPY --link --chmod=600 f /f\n")
	if len(layers) != 2 || !layers[0].Base || layers[1].Base {
		t.Errorf("layers %+v", layers)
	}
	if n := w.early.len(); n != 2 {
		t.Errorf("%d layers were handed over early, want 2", n)
	}
}

func TestCacheInTroubleIsAWarning(t *testing.T) {
	w := newWorld(t, nil)
	w.store.broken = true
	if _, ran := w.mustBuild("FROM scratch\nRUN none\n"); len(ran) != 1 {
		t.Errorf("ran %q", ran)
	}
	if n := w.events.count(progress.Warning); n == 0 {
		t.Error("no warning")
	}
}

func digests(t *testing.T, layers []Layer) (out []string) {
	t.Helper()
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d.String())
	}
	return out
}

// unreadable is a layer that nobody may read.
type unreadable struct{ v1.Layer }

func (unreadable) Digest() (v1.Hash, error) { return sha256Of([]byte("d")), nil }
func (unreadable) DiffID() (v1.Hash, error) { return sha256Of([]byte("i")), nil }
func (unreadable) Size() (int64, error)     { return 1, nil }
func (unreadable) MediaType() (m typesMediaType, err error) {
	return "application/vnd.oci.image.layer.v1.tar+gzip", nil
}
func (unreadable) Compressed() (io.ReadCloser, error)   { return nil, errors.New("layer was read") }
func (unreadable) Uncompressed() (io.ReadCloser, error) { return nil, errors.New("layer was read") }

// memoryCache is a cache.Store that forgets on demand.
type memoryCache struct {
	mu      sync.Mutex
	entries map[cache.Key]cache.Entry
	broken  bool
}

func (m *memoryCache) Get(_ context.Context, k cache.Key) (cache.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return cache.Entry{}, errors.New("cache is broken")
	}
	e, ok := m.entries[k]
	if !ok {
		return e, cache.ErrMiss
	}
	return e, nil
}

func (m *memoryCache) Put(_ context.Context, k cache.Key, e cache.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("cache is broken")
	}
	if m.entries == nil {
		m.entries = map[cache.Key]cache.Entry{}
	}
	m.entries[k] = e
	return nil
}

func (m *memoryCache) forget(which func(cache.Entry) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.entries {
		if which(e) {
			delete(m.entries, k)
		}
	}
}

// eventList remembers events.
type eventList struct {
	mu     sync.Mutex
	events []progress.Event
}

func (l *eventList) Emit(e progress.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *eventList) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = nil
}

func (l *eventList) started() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == progress.StepStarted {
			names = append(names, e.Name)
		}
	}
	return names
}

func (l *eventList) count(k progress.Kind) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

type layerList struct {
	mu     sync.Mutex
	layers []v1.Layer
}

func (l *layerList) add(layer v1.Layer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.layers = append(l.layers, layer)
}

func (l *layerList) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.layers)
}

// TestRewrittenTimesAreAnInput holds that layers with rewritten times and others do not stand in for each other.
func TestRewrittenTimesAreAnInput(t *testing.T) {
	w := newWorld(t, map[string]string{"f": "x"})
	text := "FROM scratch\nWORKDIR /w\nCOPY f /w/\nCOPY --link f /l\nRUN put /out x\n"
	seen := map[string]time.Time{}
	for _, clamp := range []time.Time{{}, time.Unix(20, 0), time.Unix(10, 0)} {
		w.clamp = clamp
		layers, ran := w.mustBuild(text)
		if len(ran) != 4 {
			t.Errorf("latest time %v: ran %q, want all steps", clamp, ran)
		}
		for _, d := range digests(t, layers[:3]) { // the process makes files that are older than all
			if other, ok := seen[d]; ok {
				t.Errorf("one layer has latest times %v and %v", clamp, other)
			}
			seen[d] = clamp
		}
		if _, ran := w.mustBuild(text); len(ran) != 0 {
			t.Errorf("latest time %v: ran %q again", clamp, ran)
		}
	}
}
