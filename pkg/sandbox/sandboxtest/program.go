package sandboxtest

import (
	"os"
	"slices"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// RunWithProgram is for drivers that execute a program from memory: newDriver returns one that executes p, which is the program of the test.
// It covers what could be another than in Run, which is to be called, too.
func RunWithProgram(t *testing.T, o Options, newDriver func(t testing.TB, p *sandbox.Program) sandbox.Driver) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := sandbox.NewProgram(string(self))
	s := &suite{o, func(t testing.TB) sandbox.Driver { return newDriver(t, program) }}
	s.sub(t, "probe", s.testProbe)
	s.sub(t, "changes", func(t *testing.T) {
		f := s.open(t, Base(t))
		f.settle()
		want := []string{`+ f 0644 0:0 id "0\n"`, `+ f 0644 0:0 made "\n"`}
		if got := f.change("echo >/made; id -u >/id"); !slices.Equal(got, want) {
			t.Errorf("changes %q, want %q", got, want)
		}
	})
	s.sub(t, "user", func(t *testing.T) {
		f := s.open(t, Base(t))
		p := f.sh("id -u")
		p.User = "app"
		if got := f.run(p); got != "1000\n" {
			t.Errorf("got %q", got)
		}
	})
	if !o.Bare {
		s.sub(t, "builder is out of reach", s.testBuilder)
	}
}
