package cachemount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { sandboxtest.Main(m) }

func both(m *memory) Options {
	return Options{From: []Place{{"m", m}}, To: []Place{{"m", m}}}
}

const big = "seq 1 100000 | awk '{print $1 * 7919 % 100003}' > big; "

func TestOnlyWhatChangedIsSent(t *testing.T) {
	far := newMemory()
	first := newMachine(t)
	first.build(both(far), big+"echo 1 > f; echo 2 > gone")
	first.quiet()
	full := far.sent

	second := newMachine(t)
	if got := second.build(both(far), "cat f gone; wc -l < big; rm gone; echo 3 > g"); got != "1\n2\n100000\n" {
		t.Errorf("restored %q", got)
	}
	second.quiet()
	if added := far.sent - full; added == 0 || added > 2000 {
		t.Errorf("%d bytes were sent for a small change, %d for all", added, full)
	}

	third := newMachine(t)
	before := far.sent
	if got := third.build(both(far), "ls; touch big"); got != "big\nf\ng\n" {
		t.Errorf("restored %q", got)
	}
	// The same machine again: what is prepared is not looked up.
	gets := far.gets
	k, _ := third.job(both(far), "cat f")
	if far.gets != gets {
		t.Errorf("%d look-ups for a cache that is here", far.gets-gets)
	}
	k.Save(t.Context())()
	third.quiet()
	if far.sent != before {
		t.Errorf("%d bytes were sent though nothing has changed", far.sent-before)
	}
}

func TestTwoJobsSaveAtOnce(t *testing.T) {
	far := newMemory()
	newMachine(t).build(both(far), big)
	machines := []*machine{newMachine(t), newMachine(t)}
	var keepers []*Keeper
	for i, m := range machines {
		k, _ := m.job(both(far), fmt.Sprintf("echo %d > f%d", i, i))
		keepers = append(keepers, k)
	}
	for _, wait := range []func(){keepers[0].Save(t.Context()), keepers[1].Save(t.Context())} {
		wait()
	}
	third := newMachine(t)
	if got := third.build(both(far), "ls"); got != "big\nf0\n" && got != "big\nf1\n" {
		t.Errorf("restored %q, want what one of them left", got)
	}
	// The one that lost goes on from what it has.
	for _, m := range append(machines, third) {
		m.build(both(far), "echo x > later")
		m.quiet()
	}
}

func TestAge(t *testing.T) {
	far := newMemory()
	o := both(far)
	o.TTL = time.Hour
	newMachine(t).build(o, "echo old > f")
	far.age(59 * time.Minute)
	if got := newMachine(t).build(o, "ls"); got != "f\n" {
		t.Errorf("restored %q", got)
	}
	far.age(time.Minute)
	m := newMachine(t)
	if got := m.build(o, "ls; echo new > g"); got != "" {
		t.Errorf("restored %q, which is too old", got)
	}
	m.quiet()
	if got := newMachine(t).build(o, "ls"); got != "g\n" {
		t.Errorf("restored %q after what was too old", got)
	}
}

// age makes everything older.
func (m *memory) age(by time.Duration) {
	for k, e := range m.entries {
		e.Created = e.Created.Add(-by)
		m.entries[k] = e
	}
}

func TestSizeLimit(t *testing.T) {
	far := newMemory()
	o := both(far)
	o.MaxSize = 10
	m := newMachine(t)
	m.build(o, "echo 12345678901 > f")
	if len(far.entries) != 0 || len(m.warned) != 1 || !strings.Contains(m.warned[0], "more than 10") {
		t.Errorf("%d entries, warnings %q", len(far.entries), m.warned)
	}
	newMachine(t).build(both(far), "echo 12345678901 > f")
	m = newMachine(t)
	if got := m.build(o, "ls"); got != "" || len(m.warned) != 1 {
		t.Errorf("restored %q, warnings %q", got, m.warned)
	}
}

// TestTrouble holds that whatever happens is told once, and leaves an empty cache, which the next save replaces.
func TestTrouble(t *testing.T) {
	for trap, harm := range map[string]func(*memory){
		"corrupt": func(m *memory) {
			m.each(func(_ cache.Key, e *cache.Entry) { e.Layer.(*stored).data[20] ^= 1 })
		},
		"cut short": func(m *memory) {
			m.each(func(_ cache.Key, e *cache.Entry) { e.Layer.(*stored).data = e.Layer.(*stored).data[:30] })
		},
		"another layer": func(m *memory) {
			m.each(func(_ cache.Key, e *cache.Entry) { e.Layer = static.NewLayer([]byte("x"), "application/x") })
		},
		"no layer": func(m *memory) { m.each(func(_ cache.Key, e *cache.Entry) { e.Layer = nil }) },
		"the lower layer is gone": func(m *memory) {
			m.each(func(k cache.Key, e *cache.Entry) {
				if e.Below == (v1.Hash{}) {
					delete(m.entries, k)
				}
			})
		},
		"another lower layer": func(m *memory) {
			upper := m.entries[identity().key(v1.Hash{})].Layer
			m.each(func(_ cache.Key, e *cache.Entry) { e.Layer = upper })
		},
		"a ring": func(m *memory) {
			m.each(func(_ cache.Key, e *cache.Entry) {
				e.Below = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
			})
			last := m.entries[identity().key(v1.Hash{})]
			m.entries[identity().key(last.Below)] = last
		},
	} {
		far := newMemory()
		newMachine(t).build(both(far), big+"echo 1 > f")
		newMachine(t).build(both(far), "echo 2 > g")
		harm(far)
		m := newMachine(t)
		if got := m.build(both(far), "ls; echo 3 > h"); got != "" {
			t.Errorf("%s: restored %q", trap, got)
		}
		if len(m.warned) != 1 || !strings.HasPrefix(m.warned[0], "restore cache mount id for linux/amd64: m: ") {
			t.Errorf("%s: warnings %q", trap, m.warned)
		}
		if got := newMachine(t).build(both(far), "ls"); got != "h\n" {
			t.Errorf("%s: afterwards restored %q", trap, got)
		}
	}
}

func (m *memory) each(f func(cache.Key, *cache.Entry)) {
	for k, e := range m.entries {
		f(k, &e)
		if _, ok := m.entries[k]; ok {
			m.entries[k] = e
		}
	}
}

func TestPlaceThatIsDown(t *testing.T) {
	down, far := newMemory(), newMemory()
	newMachine(t).build(both(far), "echo 1 > f")
	down.fail = fmt.Errorf("%w: nobody is there", cache.ErrUnusable)
	o := Options{From: []Place{{"down", down}, {"far", far}}, To: []Place{{"down", down}, {"far", far}}}
	m := newMachine(t)
	if got := m.build(o, "ls; echo 2 > g"); got != "f\n" {
		t.Errorf("restored %q from the place that is up", got)
	}
	if len(m.warned) != 1 || !strings.Contains(m.warned[0], "down: ") {
		t.Errorf("warnings %q, want one", m.warned)
	}
	if got := newMachine(t).build(both(far), "ls"); got != "f\ng\n" {
		t.Errorf("saved %q where it was up", got)
	}
	// What was down gets all of it when it is up.
	down.fail = nil
	m.build(o, "true")
	if got := newMachine(t).build(both(down), "ls"); got != "f\ng\n" {
		t.Errorf("saved %q later", got)
	}
}

// TestChainsAreBegunAnew holds that a cache that changes all the time is not made of ever more layers.
func TestChainsAreBegunAnew(t *testing.T) {
	far := newMemory()
	m := newMachine(t)
	m.build(both(far), big)
	longest := 0
	for i := range 2 * maxLinks {
		m.build(both(far), fmt.Sprintf("echo %d > f", i))
		ch, _, err := find(t.Context(), far, identity())
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, len(ch.Links))
	}
	m.quiet()
	if longest != maxLinks {
		t.Errorf("the longest chain had %d layers, want %d", longest, maxLinks)
	}
	// Much that is new: the old is left behind.
	m.build(both(far), "cp big big2")
	ch, _, err := find(t.Context(), far, identity())
	if err != nil || len(ch.Links) != 1 {
		t.Errorf("chain of %d layers, %v, want one layer", len(ch.Links), err)
	}
	if got := newMachine(t).build(both(far), "ls; cat f"); got != fmt.Sprintf("big\nbig2\nf\n%d\n", 2*maxLinks-1) {
		t.Errorf("restored %q", got)
	}
}

func identity() Identity {
	return Identity{ID: "/id", Platform: v1.Platform{OS: "linux", Architecture: "amd64"}}
}

// TestChainsGrowSlowly holds that of a cache that changes a little all the time little is sent.
func TestChainsGrowSlowly(t *testing.T) {
	const lowest, added, saves = 20_000_000, 16_000, 500
	ch := &chain{Links: []link{{Layer: cache.LayerRecord{Size: lowest}}}}
	sent := int64(0)
	for range saves {
		if ch.outgrown(added, 0) {
			t.Fatalf("begun anew with %d bytes in all", ch.size())
		}
		keep := len(ch.Links) - ch.merge(added)
		next := int64(added)
		for _, l := range ch.Links[keep:] {
			next += l.Layer.Size
		}
		sent += next
		ch.Links = append(ch.Links[:keep:keep], link{Layer: cache.LayerRecord{Size: next}})
		if len(ch.Links) > maxLinks {
			t.Fatalf("%d layers", len(ch.Links))
		}
	}
	if sent > lowest*5/2 {
		t.Errorf("%d bytes were sent in %d saves of %d", sent, saves, added)
	}
	t.Logf("sent %d bytes", sent)
}

// TestOpenAtOnce holds that a cache is looked up once, and that nobody goes on before it is there.
func TestOpenAtOnce(t *testing.T) {
	far := newMemory()
	newMachine(t).build(both(far), "echo 1 > f")
	m := newMachine(t)
	o := both(far)
	o.Warn, o.Info, o.Indexes = m.note(&m.warned), m.note(&m.told), m.indexes
	k := New(o)
	gets := far.gets
	var g sync.WaitGroup
	for range 5 {
		g.Go(func() {
			k.Open(t.Context(), m.driver, identity().ID, identity().Platform, m.dir)
			if ok, err := m.driver.CachePrepared(m.dir); !ok || err != nil {
				t.Errorf("prepared: %v, %v", ok, err)
			}
		})
	}
	g.Wait()
	if far.gets != gets+1 {
		t.Errorf("%d look-ups, want 1", far.gets-gets)
	}
	m.quiet()
}

// TestCancelledSave holds that nothing is said of what was not to be done any more.
func TestCancelledSave(t *testing.T) {
	far := newMemory()
	m := newMachine(t)
	k, _ := m.job(both(far), "echo 1 > f")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	k.Save(ctx)()
	m.quiet()
	if len(far.entries) != 0 {
		t.Errorf("%d entries", len(far.entries))
	}
	var left []string
	_ = filepath.WalkDir(m.dir, func(path string, _ fs.DirEntry, _ error) error {
		if strings.HasPrefix(filepath.Base(path), "record-") {
			left = append(left, path)
		}
		return nil
	})
	if len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestKeysAreApart(t *testing.T) {
	amd := v1.Platform{OS: "linux", Architecture: "amd64"}
	list := []Identity{
		{ID: "/a", Platform: amd}, {ID: "/b", Platform: amd}, {ID: "n/a", Platform: amd}, {ID: "/a", Platform: amd, OneOwner: true},
		{ID: "/a", Platform: v1.Platform{OS: "linux", Architecture: "arm64"}},
		{ID: "/a", Platform: v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
		{ID: "/a", Platform: v1.Platform{OS: "linux", Architecture: "armv7"}},
		{ID: "/a5:linux", Platform: v1.Platform{Architecture: "amd64"}},
	}
	var keys []cache.Key
	for _, id := range list {
		for _, chain := range []v1.Hash{{}, {Algorithm: "sha256", Hex: "00"}} {
			if k := id.key(chain); slices.Contains(keys, k) {
				t.Errorf("%+v has the key of another", id)
			} else {
				keys = append(keys, k)
			}
		}
	}
}
