package sandboxtest

import (
	"fmt"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

func (s *suite) testRoots(t *testing.T) {
	s.sub(t, "scratch", func(t *testing.T) {
		d := s.newDriver(t)
		f := openWith(t, d)
		if err := f.root.Add(t.Context(), Base(t)); err != nil {
			t.Fatal(err)
		}
		f.run(f.sh("true"))
	})
	s.sub(t, "concurrent", s.testConcurrent)
	s.sub(t, "independent", s.testIndependent)
	s.sub(t, "close", s.testClose)
	s.sub(t, "fork", s.testFork)
}

// testConcurrent opens roots on the same layers at once.
func (s *suite) testConcurrent(t *testing.T) {
	d := s.newDriver(t)
	layers := []v1.Layer{Base(t), Layer(t, File("x/y", 0o644, "1")), Layer(t, File("x/z", 0o644, "2"))}
	dir := t.TempDir()
	g, ctx := errgroup.WithContext(t.Context())
	for i := range 4 {
		g.Go(func() error {
			root, err := d.Open(ctx, layers)
			if err != nil {
				return err
			}
			defer root.Close()
			f := &fixture{TB: t, root: root}
			for n := range 3 {
				script := fmt.Sprintf("[ $(cat /x/y /x/z) = 12 ]; [ $(ls / | grep -c mine || :) = %d ]; echo > /mine%d", n, n)
				if err := root.Run(ctx, f.sh(script)); err != nil {
					return fmt.Errorf("root %d: %w\n%s", i, err, f.out.String())
				}
				l, err := snapshot.Write(ctx, root.Changes(ctx), snapshot.Options{Dir: dir})
				if err != nil {
					return err
				}
				root.Commit(l)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) testIndependent(t *testing.T) {
	d := s.newDriver(t)
	a, b := openWith(t, d, Base(t)), openWith(t, d, Base(t))
	a.run(a.sh("echo a > /file; rm -r /d"))
	if got := b.run(b.sh("cat /file; ls /d | wc -l")); got != "file\n3\n" {
		t.Errorf("got %q", got)
	}
}

// testFork opens a stack with a layer that another root has made, while that one goes on.
func (s *suite) testFork(t *testing.T) {
	d := s.newDriver(t)
	base := Base(t)
	a := openWith(t, d, base)
	l := a.commit("echo one > /one; rm /file")
	b := openWith(t, d, base, l)
	a.run(a.sh("echo two > /one"))
	if got := b.run(b.sh("cat /one; ls /file 2>/dev/null || :")); got != "one\n" {
		t.Errorf("got %q", got)
	}
	if err := a.root.Close(); err != nil {
		t.Error(err)
	}
	if got := b.run(b.sh("cat /one")); got != "one\n" {
		t.Errorf("after the other was closed: %q", got)
	}
	c := openWith(t, d, base, l)
	if got := c.run(c.sh("cat /one")); got != "one\n" {
		t.Errorf("opened later: %q", got)
	}
}

func (s *suite) testClose(t *testing.T) {
	f := s.open(t, Base(t))
	f.run(f.sh("mkdir -p /a/b; chmod 0 /a/b; chmod 0 /a"))
	f.root.Changes(t.Context()) // not consumed
	for range 2 {
		if err := f.root.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := f.root.Run(t.Context(), f.sh("true")); err == nil {
		t.Error("a closed root runs")
	}
}
