// Package sandboxtest holds the tests that every sandbox driver has to pass.
package sandboxtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Main is for the TestMain of a driver's tests.
func Main(m *testing.M) {
	sandbox.Init()
	asUserMain()
	os.Exit(m.Run())
}

// Options say what a driver cannot do where the tests run.
type Options struct {
	// OneOwner says that there is only one user id, so that steps at most take themselves for other users.
	OneOwner bool
	// Unsupervised says that they cannot even do that.
	Unsupervised bool
	// Bare says that the driver has neither namespaces nor mounts.
	Bare bool
	// Without are the tests, by their names below that of Run's, that a driver cannot pass, with the reasons. All of
	// them are to be found in docs/isolation.md.
	Without map[string]string
}

// suite is one run of the tests.
type suite struct {
	o Options
	// newDriver returns a driver with a state directory of its own.
	newDriver func(t testing.TB) sandbox.Driver
}

// Run runs all tests with drivers that newDriver makes, each of which has a state directory of its own.
func Run(t *testing.T, o Options, newDriver func(t testing.TB) sandbox.Driver) {
	s := &suite{o, newDriver}
	s.sub(t, "probe", s.testProbe)
	s.sub(t, "changes", s.testChanges)
	if !o.Unsupervised {
		s.sub(t, "owners", s.testOwners)
	}
	s.sub(t, "layers", s.testLayers)
	s.sub(t, "process", s.testProcess)
	s.sub(t, "mounts", s.testMounts)
	s.sub(t, "caches", s.testCaches)
	s.sub(t, "shared caches", s.testSharedCaches)
	s.sub(t, "privileges", s.testPrivileges)
	s.sub(t, "roots", s.testRoots)
	if o.Bare {
		s.sub(t, "bare", s.testBare)
	}
}

// sub runs a test that is part of t, unless the driver cannot pass it.
func (s *suite) sub(t *testing.T, name string, f func(t *testing.T)) {
	_, outer, _ := strings.Cut(t.Name(), "/")
	full := strings.ReplaceAll(strings.TrimPrefix(outer+"/"+name, "/"), " ", "_")
	if reason, ok := s.o.Without[full]; ok {
		f = func(t *testing.T) { t.Logf("not for this driver: %s", reason) }
	}
	t.Run(name, f)
}

func (s *suite) testProbe(t *testing.T) {
	if err := s.newDriver(t).Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// fixture is an open root.
type fixture struct {
	testing.TB
	root sandbox.Root
	out  bytes.Buffer
}

func (s *suite) open(t testing.TB, layers ...v1.Layer) *fixture {
	t.Helper()
	return openWith(t, s.newDriver(t), layers...)
}

func openWith(t testing.TB, d sandbox.Driver, layers ...v1.Layer) *fixture {
	t.Helper()
	root, err := d.Open(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	return &fixture{TB: t, root: root}
}

// sh is a process that runs a script.
func (f *fixture) sh(script string) sandbox.Process {
	return sandbox.Process{
		Args: []string{"sh", "-e", "-c", script}, Env: []string{"PATH=/bin"}, Dir: "/",
		Stdout: &f.out, Stderr: &f.out,
	}
}

// run runs a process that has to succeed and returns its output.
func (f *fixture) run(p sandbox.Process) string {
	f.Helper()
	f.out.Reset()
	if err := f.root.Run(f.Context(), p); err != nil {
		f.Fatalf("run %q: %v\n%s", p.Args, err, f.out.String())
	}
	return f.out.String()
}

// change runs a script and returns what it changed.
func (f *fixture) change(script string) []string {
	f.Helper()
	f.run(f.sh(script))
	lines := read(f, f.root.Changes(f.Context()))
	f.root.Commit(nil)
	return lines
}

// commit runs a script and makes a layer of what it changed.
func (f *fixture) commit(script string) v1.Layer {
	f.Helper()
	f.run(f.sh(script))
	l, err := snapshot.Write(f.Context(), f.root.Changes(f.Context()), snapshot.Options{Dir: f.TempDir()})
	if err != nil {
		f.Fatalf("write layer: %v", err)
	}
	if l == nil {
		f.root.Commit(nil)
		return nil
	}
	f.root.Commit(l)
	return l
}

// exitCode is that of an error, -1 when it has none.
func exitCode(err error) int {
	var exit *sandbox.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	}
	return -1
}

func cancelled(t testing.TB) (context.Context, context.CancelCauseFunc) {
	return context.WithCancelCause(t.Context())
}
