package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// costs are what a build takes that depends neither on the machine nor on what else it does.
type costs struct {
	requests string // by purpose
	// processes are those started, and programs how often one was executed, by gobuild or by the commands of the Dockerfile.
	processes, programs int
	// received and sent are the bytes of bodies from and to registries.
	received, sent int64
	// read and written are what all processes together have read and written, from files, pipes and sockets.
	read, written int64
	// dirtied are bytes of files that have to go to the disk. A page that is written to again while it goes counts
	// again, so that compare allows unrest more.
	dirtied int64
	// bytes and objects are what gobuild's main process has allocated.
	bytes, objects int64
}

const unrest = 1 << 20

// compare tells of each cost that is above its limit, by how much.
func (c costs) compare(t *testing.T, limit costs) {
	t.Helper()
	if c.requests != limit.requests {
		t.Errorf("requests are\n\t%s\nand were\n\t%s", c.requests, limit.requests)
	}
	for _, e := range []struct {
		what     string
		got, max int64
	}{
		{"processes started", int64(c.processes), int64(limit.processes)},
		{"programs executed", int64(c.programs), int64(limit.programs)},
		{"bytes received from registries", c.received, limit.received},
		{"bytes sent to registries", c.sent, limit.sent},
		{"bytes read from files, pipes and sockets", c.read, limit.read},
		{"bytes written to files, pipes and sockets", c.written, limit.written},
		{"bytes of files for the disk", c.dirtied, limit.dirtied + unrest},
		{"bytes allocated", c.bytes, limit.bytes},
		{"objects allocated", c.objects, limit.objects},
	} {
		if e.got > e.max {
			t.Errorf("%s: %d, %d more (%.0f%%) than the limit of %d", e.what, e.got, e.got-e.max,
				100*float64(e.got-e.max)/float64(max(e.max, 1)), e.max)
		}
	}
}

// costly is a workload, and what it may cost.
type costly struct {
	name       string
	dockerfile string
	// before makes what the measured build finds, and returns the measured build's further arguments.
	before func(d *depths) []string
	limit  costs
}

// prepared builds into a cache, of which an empty machine is to build.
func prepared(d *depths) []string {
	d.mustBuild("--destination", d.destination("first"), "--cache-to", d.cacheDir())
	d.work = filepath.Join(d.dir, "empty")
	return []string{"--cache-from", d.cacheDir()}
}

// indexed makes the base's index known, and leaves neither its layers nor anything to find for the build.
func indexed(d *depths) []string {
	d.mustBuild("--destination", d.destination("first"))
	d.forgetBlobs()
	d.lay(map[string]string{"app": "two"})
	return nil
}

const copies = "WORKDIR /srv/app\nCOPY app .\nADD app /opt/folder/added\nCOPY --chown=1000:50 app /home/app/\n"

// costlies are typical builds. Numbers of requests and processes are exact. The others are 10 to 15 per cent above
// what was measured: transfers are cut differently each time, and a collection may come earlier or later.
func costlies() []costly {
	cached, _ := manySteps("", 30)
	_, cached, _ = strings.Cut(cached, "\n")
	return []costly{
		{name: "30 steps in a cache", dockerfile: cached, before: prepared, limit: costs{
			requests: "1 GET blob, 25 GET manifest, 1 GET ping, 1 HEAD blob, 1 HEAD manifest, " +
				"26 POST mount, 1 POST upload, 1 PUT manifest, 1 PUT upload",
			processes: 0, programs: 0, received: 33_600, sent: 12_900,
			read: 63_900, written: 42_600, dirtied: 18_400, bytes: 8_600_000, objects: 45_500,
		}},
		{name: "copies onto a base whose index is known", dockerfile: copies, before: indexed, limit: costs{
			requests: "1 GET blob, 1 GET manifest, 1 GET ping, 5 HEAD blob, 1 HEAD manifest, " +
				"2 POST mount, 5 POST upload, 1 PUT manifest, 5 PUT upload",
			processes: 0, programs: 0, received: 1_250, sent: 4_200,
			read: 21_000, written: 22_400, dirtied: 91_800, bytes: 10_200_000, objects: 31_300,
		}},
		{name: "copies onto a base whose index is not known", dockerfile: copies, limit: costs{
			requests: "3 GET blob, 1 GET manifest, 1 GET ping, 5 HEAD blob, 1 HEAD manifest, " +
				"2 POST mount, 5 POST upload, 1 PUT manifest, 5 PUT upload",
			processes: 0, programs: 0, received: 10_700_000, sent: 4_200,
			read: 21_400_000, written: 10_800_000, dirtied: 10_800_000, bytes: 13_200_000, objects: 36_400,
		}},
		{name: "10 small RUNs", dockerfile: strings.Repeat("RUN echo one >>/lines\n", 10), limit: costs{
			requests: "3 GET blob, 1 GET manifest, 1 GET ping, 11 HEAD blob, 1 HEAD manifest, " +
				"2 POST mount, 11 POST upload, 1 PUT manifest, 11 PUT upload",
			processes: 22, programs: 21, received: 10_700_000, sent: 7_940,
			read: 21_600_000, written: 26_600_000, dirtied: 23_500_000, bytes: 21_300_000, objects: 52_400,
		}},
		{name: "two stages", limit: costs{
			requests: "3 GET blob, 1 GET manifest, 1 GET ping, 2 HEAD blob, 1 HEAD manifest, " +
				"2 POST upload, 1 PUT manifest, 2 PUT upload",
			processes: 5, programs: 3, received: 10_700_000, sent: 9_410_000,
			read: 59_000_000, written: 64_000_000, dirtied: 50_900_000, bytes: 36_300_000, objects: 38_700,
		}, dockerfile: "RUN mkdir /out && cp /opt/" + marker + " /out/\nFROM scratch\nCOPY --from=0 /out /out\n"},
		{name: "RUN that writes 20 MB", limit: costs{
			requests: "3 GET blob, 1 GET manifest, 1 GET ping, 2 HEAD blob, 1 HEAD manifest, " +
				"2 POST mount, 2 POST upload, 1 PUT manifest, 2 PUT upload",
			processes: 4, programs: 3, received: 10_700_000, sent: 6_170_000,
			read: 49_700_000, written: 60_800_000, dirtied: 50_900_000, bytes: 23_700_000, objects: 36_900,
		}, dockerfile: "RUN seq 2600000 >/made\n"},
	}
}

// TestCosts holds what typical builds cost in quantities that can be counted: it is the guard against growing slower
// that needs no quiet machine. What costs more on purpose changes its limit here, in the same commit.
func TestCosts(t *testing.T) {
	t.Parallel()
	for _, c := range costlies() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDepths(t, c.dockerfile)
			var more []string
			if c.before != nil {
				more = c.before(d)
			}
			got := d.cost(append(more, "--destination", d.destination("measured"))...)
			t.Logf("%+v", got)
			got.compare(t, c.limit)
		})
	}
}

// allocated is what the program says at the end.
var allocated = regexp.MustCompile(`allocated (\d+) bytes in (\d+) objects`)

// cost builds and counts.
func (d *depths) cost(args ...string) costs {
	d.t.Helper()
	file := filepath.Join(d.dir, "tally.json")
	d.proxy.Reset()
	// What the program keeps ready depends on the number of processors, and processes depend on the driver.
	d.isolation, d.env = "overlay", append(d.env, "GOMAXPROCS=2")
	d.through = []string{tallyProgram(d.t), file}
	out := d.mustBuild(append(args, "--verbosity", "debug")...)
	d.through = nil
	var n struct {
		Processes, Programs    int
		Read, Written, Dirtied int64
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	c := costs{processes: n.Processes, programs: n.Programs, read: n.Read, written: n.Written, dirtied: n.Dirtied}
	m := allocated.FindStringSubmatch(out)
	if m == nil {
		d.t.Fatalf("the program does not say what it has allocated:\n%s", out)
	}
	c.bytes, _ = strconv.ParseInt(m[1], 10, 64)
	c.objects, _ = strconv.ParseInt(m[2], 10, 64)
	requests := d.proxy.Seen("", "")
	c.requests = inOrder(tally(requests))
	for _, r := range requests {
		c.received, c.sent = c.received+r.Answer, c.sent+r.Sent
	}
	return c
}

// inOrder is a text for a tally.
func inOrder(counts map[string]int) string {
	var list []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(list, ", ")
}

// tallyProgram returns the path of the program that counts.
func tallyProgram(t testing.TB) string {
	return world.tally.get(t, func(ctx context.Context) (string, error) {
		bin := filepath.Join(world.dir, "tally")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "./integration/internal/tally")
		cmd.Dir = repository()
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%q: %w\n%s", cmd.Args, err, out)
		}
		return bin, nil
	})
}
