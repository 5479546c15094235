package integration

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// purpose names what a request is for.
func purpose(r registrytest.Request) string {
	what := "other"
	switch {
	case r.Path == "/v2/":
		what = "ping"
	case strings.Contains(r.Path, "/manifests/"):
		what = "manifest"
	case r.Query.Has("mount"):
		what = "mount"
	case strings.Contains(r.Path, "/blobs/uploads/"):
		what = "upload"
	case strings.Contains(r.Path, "/blobs/"):
		what = "blob"
	}
	return r.Method + " " + what
}

// tally counts requests by purpose.
func tally(requests []registrytest.Request) map[string]int {
	m := map[string]int{}
	for _, r := range requests {
		m[purpose(r)]++
	}
	return m
}

// allSleep says whether no thread of a process has anything to do.
func allSleep(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		// The state comes after the name, which is in brackets (proc(5)).
		if _, rest, ok := strings.Cut(string(data), ") "); !ok || rest[0] != 'S' {
			return false
		}
	}
	return true
}

// manySteps is a Dockerfile of n steps of all kinds, and how many of them have a layer.
func manySteps(base string, n int) (dockerfile string, layers int) {
	var b strings.Builder
	fmt.Fprintf(&b, "FROM %s\n", base)
	for i := range n {
		kinds := []string{"RUN echo %d > /run-%d", "COPY app /copy-%d-%d", "ENV STEP_%d=%d", "RUN mkdir /made-%d-%d", "WORKDIR /dir/%d-%d"}
		kind := kinds[i%len(kinds)]
		fmt.Fprintf(&b, kind+"\n", i, i)
		if !strings.HasPrefix(kind, "ENV") {
			layers++
		}
	}
	return b.String(), layers
}

// TestTrafficOfACachedBuild holds what a build costs whose steps are all in a registry, on an empty machine: for each step
// a manifest and a mount and no byte of a layer, and for all of them together as many round trips as for a few.
func TestTrafficOfACachedBuild(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "")
	work, few := d.work, 0
	// Each has the steps of the one before.
	for _, n := range []int{5, 30, 65, 100} {
		dockerfile, layers := manySteps(d.base, n)
		d.lay(map[string]string{"Dockerfile": dockerfile})
		d.work = work
		d.mustBuild("--destination", d.destination("first"), "--cache-to", d.cacheDir())
		d.work = filepath.Join(d.dir, fmt.Sprint("empty-", n))
		d.proxy.Reset()
		rounds := d.inRounds("--destination", d.destination(fmt.Sprint("second-", n)), "--cache-from", d.cacheDir())
		seen := d.proxy.Seen("", "")
		want := map[string]int{
			"GET ping":      1,
			"GET manifest":  1 + layers, // the base's, and that of each entry
			"GET blob":      1,          // the base's config
			"POST mount":    len(d.layers) + layers,
			"HEAD manifest": 1, // whether the destination is the image already
			"HEAD blob":     1, // and has its config
			"POST upload":   1,
			"PUT upload":    1,
			"PUT manifest":  1,
		}
		if got := tally(seen); !maps.Equal(got, want) {
			t.Errorf("%d steps: requests %v, want %v\n%s", n, got, want, d.proxy.Log())
		}
		read, sent := int64(0), int64(0)
		for _, r := range seen {
			read, sent = read+r.Answer, sent+max(r.Length, 0)
			if r.Query.Has("mount") && r.Status != http.StatusCreated {
				t.Errorf("%d steps: not mounted: %v", n, r)
			}
		}
		// A manifest has a kilobyte, and in the config and the manifest of an image each layer has some hundred bytes.
		if limit := int64(8<<10 + n<<11); read > limit || sent > limit {
			t.Errorf("%d steps: %d bytes read and %d sent, want less than %d", n, read, sent, limit)
		}
		t.Logf("%d steps: %d round trips, %d bytes read, %d sent, %v\n%s", n, len(rounds), read, sent, tally(seen), describe(rounds))
		if few == 0 {
			few = len(rounds)
		}
		if few > 10 || len(rounds) > few+1 {
			t.Errorf("%d steps: %d round trips, %d for few:\n%s", n, len(rounds), few, describe(rounds))
		}
	}
}

// inRounds builds behind a proxy that answers only when there is nothing left to ask, and returns what was asked at a time. It
// takes all faults from the proxy.
func (d *depths) inRounds(args ...string) [][]registrytest.Request {
	d.t.Helper()
	var pid atomic.Int64
	rounds := d.proxy.Rounds(func() bool { return pid.Load() != 0 && allSleep(int(pid.Load())) })
	r := d.start(d.args(args...)...)
	pid.Store(int64(r.cmd.Process.Pid))
	_, err := r.wait()
	all := rounds.End()
	d.proxy.Heal()
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// describe is a line for each round.
func describe(rounds [][]registrytest.Request) string {
	var b strings.Builder
	for i, r := range rounds {
		counts := tally(r)
		fmt.Fprintf(&b, "%2d:", i+1)
		for _, what := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(&b, " %d %s,", counts[what], what)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
