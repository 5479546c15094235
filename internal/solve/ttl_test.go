package solve

import (
	"slices"
	"testing"
	"time"
)

// age makes everything in the cache older.
func (m *memoryCache) age(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.entries {
		e.Created = e.Created.Add(-by)
		m.entries[k] = e
	}
}

// TestOldResultsAreMadeAnew holds that age counts from when a step ran, that a comment above an instruction has the last
// word, and that what is made anew replaces what was too old.
func TestOldResultsAreMadeAnew(t *testing.T) {
	w := newWorld(t, nil)
	w.ttl = time.Hour
	text := "FROM scratch\nRUN put /a x\n# gobuild: cache-ttl=24h\nRUN put /b x\n# gobuild: cache-ttl=1m\nRUN put /c x\n"
	if _, ran := w.mustBuild(text); len(ran) != 3 {
		t.Fatalf("ran %q, want all", ran)
	}
	for _, tt := range []struct {
		age  time.Duration
		want int
	}{{0, 0}, {10 * time.Minute, 1}, {0, 0}, {2 * time.Hour, 2}, {0, 0}, {48 * time.Hour, 3}} {
		w.store.age(tt.age)
		if _, ran := w.mustBuild(text); len(ran) != tt.want {
			t.Errorf("%v later ran %q, want %d steps", tt.age, ran, tt.want)
		}
	}
}

// TestEpochIsNoAge holds that results are as old as they are, whatever time the image bears.
func TestEpochIsNoAge(t *testing.T) {
	w := newWorld(t, nil)
	w.ttl, w.epoch = time.Hour, time.Unix(1, 0)
	text := "FROM scratch\nWORKDIR /w\nRUN put /a x\n"
	w.mustBuild(text)
	if _, ran := w.mustBuild(text); len(ran) != 0 {
		t.Errorf("ran %q, though it has just been run", ran)
	}
	w.store.age(2 * time.Hour)
	if _, ran := w.mustBuild(text); len(ran) != 2 {
		t.Errorf("ran %q, want what is too old", ran)
	}
}

// TestLinkedCopyIsKnownOnAStageMadeAnew holds that --no-cache-filter for what is below concerns no linked copy.
func TestLinkedCopyIsKnownOnAStageMadeAnew(t *testing.T) {
	w := newWorld(t, map[string]string{"f": "x"})
	w.noCacheFilter = []string{"below"}
	text := "FROM scratch AS below\nRUN counter /n\nFROM below AS top\nCOPY --link f /f\nFROM scratch\nCOPY --from=top /n /f /\n"
	first, _ := w.mustBuild(text)
	second, ran := w.mustBuild(text)
	if len(ran) != 2 || digests(t, first)[0] == digests(t, second)[0] {
		t.Errorf("ran %q, want all but the linked copy", ran)
	}
}

func TestStageWithoutCache(t *testing.T) {
	w := newWorld(t, nil)
	text := "FROM scratch AS Base\nRUN put /a x\nFROM scratch AS side\nRUN counter /n\nFROM base AS top\nCOPY --from=side /n /n\n"
	first, _ := w.mustBuild(text)
	// The step below comes to the same layer, so that the stage on top of it is in the cache.
	w.noCacheFilter = []string{"BASE"}
	if _, ran := w.mustBuild(text); len(ran) != 1 {
		t.Errorf("ran %q, want the step of the stage that is named", ran)
	}
	// A stage is made anew though all that others have of it is in the cache.
	w.noCacheFilter = []string{"side"}
	second, ran := w.mustBuild(text)
	if len(ran) != 2 || slices.Equal(digests(t, first), digests(t, second)) {
		t.Errorf("ran %q, want the step of the stage that is named and the copy", ran)
	}
	w.noCacheFilter = nil
	third, ran := w.mustBuild(text)
	if len(ran) != 0 || !slices.Equal(digests(t, second), digests(t, third)) {
		t.Errorf("ran %q, and what was made anew was not kept", ran)
	}
}
