package solve

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/progress"
)

// memoryRecords are Records in memory.
type memoryRecords struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (m *memoryRecords) Record(_ context.Context, id string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if data, ok := m.data[id]; ok {
		return data, nil
	}
	return nil, cache.ErrMiss
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
