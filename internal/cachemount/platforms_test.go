package cachemount

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var (
	amd = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm = v1.Platform{OS: "linux", Architecture: "arm64"}
)

// buildFor runs a script for each platform in one build, and saves.
func (m *machine) buildFor(o Options, script string, platforms ...v1.Platform) (out string) {
	m.t.Helper()
	o.Platforms = func(string) []v1.Platform { return platforms }
	k := m.keeper(o)
	for _, p := range platforms {
		out += m.step(k, p, script)
	}
	k.Save(m.t.Context())()
	m.quiet()
	return out
}

// TestPlatformsOfABuildShareACache holds that steps for several platforms see one directory, which is saved for each of them,
// and sent once.
func TestPlatformsOfABuildShareACache(t *testing.T) {
	far := newMemory()
	newMachine(t).buildFor(both(far), big+"echo >> lines", amd, arm)
	once := far.sent
	for _, p := range []v1.Platform{amd, arm} {
		if got := newMachine(t).buildFor(both(far), "ls; wc -l < lines", p); got != "big\nlines\n2\n" {
			t.Errorf("%v: restored %q", p, got)
		}
	}
	// Whichever comes first on the next machine.
	newMachine(t).buildFor(both(far), "echo >> lines", arm, amd)
	newMachine(t).buildFor(both(far), "echo >> lines", amd, arm)
	if more := far.sent - once; more > 2000 {
		t.Errorf("%d bytes were sent for small changes, %d for all", more, once)
	}
	for _, p := range []v1.Platform{amd, arm} {
		if got := newMachine(t).buildFor(both(far), "wc -l < lines", p); got != "6\n" {
			t.Errorf("%v: restored %q", p, got)
		}
	}
}

// TestPlatformsOfJobsAreApart holds that a job for one platform leaves what is saved for others alone.
func TestPlatformsOfJobsAreApart(t *testing.T) {
	far := newMemory()
	newMachine(t).buildFor(both(far), "echo > of-amd", amd)
	if got := newMachine(t).buildFor(both(far), "ls; echo > of-arm", arm); got != "" {
		t.Errorf("restored %q for another platform", got)
	}
	for p, want := range map[string]v1.Platform{"of-amd\n": amd, "of-arm\n": arm} {
		if got := newMachine(t).buildFor(both(far), "ls", want); got != p {
			t.Errorf("%v: restored %q, want %q", want, got, p)
		}
	}
	// A build for both, whose first step finds nothing of its own, takes what the other has.
	delete(far.entries, identity().key(v1.Hash{}))
	if got := newMachine(t).buildFor(both(far), "ls; true", amd, arm); got != "of-arm\nof-arm\n" {
		t.Errorf("restored %q", got)
	}
	if got := newMachine(t).buildFor(both(far), "ls", amd); got != "of-arm\n" {
		t.Errorf("saved %q for the platform that had nothing", got)
	}
}

// TestMachineThatBuildsForAnotherPlatform holds that a machine which keeps its directory does not send everything anew when its
// next build is for another platform.
func TestMachineThatBuildsForAnotherPlatform(t *testing.T) {
	far := newMemory()
	m := newMachine(t)
	m.buildFor(both(far), big, amd, arm)
	before := far.sent
	for _, p := range []v1.Platform{arm, amd, arm} {
		m.buildFor(both(far), "echo > f-"+p.Architecture, p)
	}
	if more := far.sent - before; more > 2000 {
		t.Errorf("%d bytes were sent for small changes, %d for all", more, before)
	}
	// The last one had all that there is.
	if got := newMachine(t).buildFor(both(far), "ls", arm); got != "big\nf-amd64\nf-arm64\n" {
		t.Errorf("restored %q", got)
	}
}
