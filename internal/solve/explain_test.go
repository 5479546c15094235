package solve

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/progress"
)

// memoryRecords are Records in memory.
type memoryRecords struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (m *memoryRecords) Records(_ context.Context, id string) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if data, ok := m.data[id]; ok {
		return [][]byte{data}, nil
	}
	return nil, nil
}

func (m *memoryRecords) PutRecord(_ context.Context, id string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		m.data = map[string][]byte{}
	}
	m.data[id] = data
	return nil
}

// reasons are what the last build said of steps that were not in the cache.
func (l *eventList) reasons() (texts []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == progress.Info {
			texts = append(texts, e.Text)
		}
	}
	slices.Sort(texts)
	return texts
}

// TestExplain holds that for each stage the one thing is named that has changed, and nothing for stages that are cached.
func TestExplain(t *testing.T) {
	w := newWorld(t, map[string]string{"src/a": "1", "src/b": "1", "conf": "1"})
	w.records = &memoryRecords{}
	text := func(version, command string) string {
		return "FROM scratch AS build\nARG V=" + version + "\nRUN counter /base\nCOPY src /src\nRUN " + command + "\nRUN put /z z\n" +
			"FROM scratch AS other\nCOPY conf /conf\nRUN --mount=source=conf,target=/c put /y y\n" +
			"FROM scratch\nCOPY --from=build /out /\nCOPY --from=other /conf /\n"
	}
	for _, tt := range []struct {
		name   string
		change func()
		text   string
		want   []string
	}{
		{"first", func() {}, text("1", "put /out x"), []string{
			"[build 1/4] RUN counter /base is not in the cache: no earlier build of this step is known",
			"[other 1/2] COPY conf /conf is not in the cache: no earlier build of this step is known",
			"[stage-2 1/2] COPY --from=build /out / is not in the cache: no earlier build of this step is known",
		}},
		{"nothing", func() {}, text("1", "put /out x"), nil},
		{"file", func() { w.write("src/a", "2") }, text("1", "put /out x"), []string{
			"[build 2/4] COPY src /src is not in the cache: src/a has changed",
		}},
		{"file-is-new", func() { w.write("src/c", "2") }, text("1", "put /out x"), []string{
			"[build 2/4] COPY src /src is not in the cache: src/c is new",
		}},
		{"command", func() {}, text("1", "put /out y"), []string{
			"[build 3/4] RUN put /out y is not in the cache: the command has changed",
			"[stage-2 1/2] COPY --from=build /out / is not in the cache: [build 4/4] RUN put /z z has changed",
		}},
		{"argument", func() {}, text("2", "put /out y"), []string{
			"[build 1/4] RUN counter /base is not in the cache: the variable V has changed",
		}},
		{"mounted", func() { w.write("conf", "2") }, text("2", "put /out y"), []string{
			"[other 1/2] COPY conf /conf is not in the cache: conf has changed",
			"[stage-2 2/2] COPY --from=other /conf / is not in the cache: [other 2/2] RUN --mount=source=conf,target=/c put /y y has changed",
		}},
		{"forgotten", func() { w.store.forget(func(e cache.Entry) bool { return strings.Contains(e.Step, "build") }) }, text("2", "put /out y"), []string{
			"[build 1/4] RUN counter /base is not in the cache: its result was not kept, or has been removed",
			"[stage-2 1/2] COPY --from=build /out / is not in the cache: its result was not kept, or has been removed",
		}},
		{"old", func() { w.store.age(2 * time.Hour); w.ttl = time.Hour }, text("2", "put /out y"), []string{
			"[build 1/4] RUN counter /base is not in the cache: the cache entry is 2h0m0s old, which is more than 1h0m0s",
			"[other 1/2] COPY conf /conf is not in the cache: the cache entry is 2h0m0s old, which is more than 1h0m0s",
			"[stage-2 1/2] COPY --from=build /out / is not in the cache: the cache entry is 2h0m0s old, which is more than 1h0m0s",
		}},
		{"filter", func() { w.ttl, w.noCacheFilter = 0, []string{"other"} }, text("2", "put /out y"), []string{
			"[other 1/2] COPY conf /conf is not in the cache: its stage is to be made anew",
		}},
	} {
		tt.change()
		w.mustBuild(tt.text)
		if got := w.events.reasons(); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

// TestShareTellsOfAllSteps holds that others are given what every step is made of, found or made, those of stages that nobody looked
// at because their files were not needed too, and that nothing is given when everything was found.
func TestShareTellsOfAllSteps(t *testing.T) {
	w := newWorld(t, map[string]string{"f": "1", "conf": "1"})
	var shared []map[string]json.RawMessage
	w.share = func(records map[string]json.RawMessage) { shared = append(shared, records) }
	text := func(last string) string {
		return "FROM scratch AS b\nARG PASSWORD=hunter2\nCOPY f /f\nRUN --mount=source=conf,target=/c put /out x\nRUN put /$PASSWORD y\n" +
			"FROM scratch\nCOPY --from=b /out /\nENV A=$PASSWORD\nWORKDIR /w\nRUN put /" + last + " z\n"
	}
	want := []string{
		"[b 1] linux/amd64", "[b 2] linux/amd64", "[b 3] linux/amd64",
		"[stage-1 1] linux/amd64", "[stage-1 2] linux/amd64", "[stage-1 3] linux/amd64",
	}
	for i, last := range []string{"one", "one", "two"} {
		w.mustBuild(text(last))
		if n := []int{1, 1, 2}[i]; len(shared) != n {
			t.Fatalf("shared %d times after build %d, want %d", len(shared), i, n)
		}
	}
	for i, records := range shared {
		if got := slices.Sorted(maps.Keys(records)); !slices.Equal(got, want) {
			t.Errorf("build %d shared %q, want %q", i, got, want)
		}
	}
	// What was found says the same as what was made.
	for _, step := range want[:5] {
		if a, b := string(shared[0][step]), string(shared[1][step]); a != b || !strings.Contains(a, `"sum"`) {
			t.Errorf("%s was shared as %s when it was made, and as %s when it was found", step, a, b)
		}
		if strings.Contains(string(shared[0][step]), "hunter") {
			t.Errorf("%s tells the value of a variable: %s", step, shared[0][step])
		}
	}
	if _, _, err := w.build(t.Context(), text("failing")+"RUN fail 1\n"); err == nil || len(shared) != 2 {
		t.Errorf("shared %d times after a build that ended with %v", len(shared), err)
	}
}

// several are Records of several places.
type several []*memoryRecords

func (s several) Records(ctx context.Context, id string) (list [][]byte, err error) {
	for _, m := range s {
		one, err := m.Records(ctx, id)
		if err != nil {
			return nil, err
		}
		list = append(list, one...)
	}
	return list, nil
}

func (s several) PutRecord(ctx context.Context, id string, data []byte) error {
	return s[0].PutRecord(ctx, id, data)
}

// TestExplainComparesWithTheClosest holds that of what several places remember the least different is meant, whatever its
// place, and that what cannot be read is left out.
func TestExplainComparesWithTheClosest(t *testing.T) {
	ctx := t.Context()
	far, near, broken := &memoryRecords{}, &memoryRecords{}, &memoryRecords{}
	w := newWorld(t, map[string]string{"a": "1", "b": "1"})
	text := "FROM scratch\nCOPY a b /\n"
	for _, tt := range []struct {
		records *memoryRecords
		a, b    string
	}{{far, "2", "2"}, {near, "3", "2"}} {
		w.write("a", tt.a)
		w.write("b", tt.b)
		w.records = tt.records
		w.mustBuild(text)
	}
	id := slices.Collect(maps.Keys(near.data))[0]
	_ = broken.PutRecord(ctx, id, []byte("{"))
	w.write("b", "1")
	for name, list := range map[string]several{"last": {far, near}, "first": {near, far}, "beside-damage": {broken, near, broken}} {
		w.store.forget(func(cache.Entry) bool { return true })
		own := several(append([]*memoryRecords{{}}, list...)) // what is put does not change the others
		w.records = own
		w.mustBuild(text)
		want := []string{"[1/1] COPY a b / is not in the cache: b has changed"}
		if got := w.events.reasons(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	w.store.forget(func(cache.Entry) bool { return true })
	w.records = broken
	w.mustBuild(text)
	if got := w.events.reasons(); len(got) != 1 || !strings.Contains(got[0], "what it was made of before cannot be read") {
		t.Errorf("%q", got)
	}
}

// TestRecordsAreBounded holds that a huge context makes no huge record.
func TestRecordsAreBounded(t *testing.T) {
	r := &record{}
	for i := range maxInputs + 10 {
		r.put(input{Kind: inputFile, Name: strconv.Itoa(i)})
	}
	if len(r.Inputs) != maxInputs || !r.Cut {
		t.Errorf("%d inputs, cut: %v", len(r.Inputs), r.Cut)
	}
	r.Cut = false
	if n := r.limit(7); n != 7 || len(r.Inputs) != 7 || !r.Cut {
		t.Errorf("limited to %d inputs, cut: %v", len(r.Inputs), r.Cut)
	}
	if n := r.limit(-1); n != 0 || len(r.Inputs) != 0 {
		t.Errorf("limited to %d inputs", len(r.Inputs))
	}
}

func TestPlaces(t *testing.T) {
	for name, want := range map[string]string{
		"[build 2/4] RUN make": "[build 2] p", "[build  2/14] RUN make": "[build 2] p", "[ 3/13] RUN a": "[ 3] p",
		"[linux/amd64->arm64 x 2/4] RUN a/b ] c": "[linux/amd64->arm64 x 2] p", "https://host/x": "https://host/x p",
	} {
		n := &node{step: &plan.Step{Name: name, Platform: v1.Platform{OS: "p"}}}
		if got := n.place(); got != want {
			t.Errorf("%q is at %q, want %q", name, got, want)
		}
	}
}
