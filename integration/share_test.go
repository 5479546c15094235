package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gate is where steps of builds wait for the test: each connects, and goes on when its connection is closed.
type gate struct {
	t    *testing.T
	l    *net.TCPListener
	wait string // the command for the step
}

func newGate(t *testing.T) *gate {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &gate{t: t, l: l, wait: "nc 127.0.0.1 " + port + " </dev/null"}
}

// arrive waits for n steps and returns what lets them go on.
func (g *gate) arrive(n int) (open func()) {
	g.t.Helper()
	var conns []net.Conn
	open = func() {
		for _, c := range conns {
			c.Close()
		}
		conns = nil
	}
	g.t.Cleanup(open)
	for range n {
		c, err := g.l.Accept()
		if err != nil {
			open()
			g.t.Fatalf("%d of %d steps came: %v", len(conns), n, err)
		}
		conns = append(conns, c)
	}
	return open
}

// TestBuildsShareAWorkDirectory runs several builds at once in one work directory: some are the same, and some
// have a part in common.
func TestBuildsShareAWorkDirectory(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		since := time.Now().Truncate(time.Second)
		g := newGate(t)
		common := "FROM " + busybox(t) + "\nCOPY app /srv/\nRUN " + g.wait + "; cp /srv/app /srv/made && touch -d @1500000000 /srv/made /srv\n"
		s := place(map[string]string{
			"app": noise("share", 2<<20), "same": common + "COPY app /last\n", "other": common + "RUN rm /srv/app\nCOPY app /other\n",
		})
		s.date("app")
		s.env = append(s.env, "SOURCE_DATE_EPOCH=1600000000")
		builds := []string{"same", "same", "other"}
		var runs []*run
		for i, file := range builds {
			runs = append(runs, s.start(s.args("--dockerfile", filepath.Join(s.context, file), "--destination", repo(t, fmt.Sprint(i)))...))
		}
		// All run the step at the same time.
		g.arrive(len(builds))()
		for _, r := range runs {
			if out, err := r.wait(); err != nil {
				t.Fatal(err, out)
			}
		}
		s.clean()

		fresh := *s
		fresh.work = filepath.Join(s.dir, "home", "fresh")
		for i, file := range builds[1:] {
			r := fresh.start(fresh.args("--dockerfile", filepath.Join(s.context, file), "--destination", repo(t, "fresh"+fmt.Sprint(i)))...)
			if i == 0 {
				g.arrive(1)()
			}
			if out, err := r.wait(); err != nil {
				t.Fatal(err, out)
			}
			sameImages(t, pull(t.Context(), t, repo(t, "fresh"+fmt.Sprint(i))), pull(t.Context(), t, repo(t, fmt.Sprint(i+1))), since)
		}
		digests := map[string]bool{}
		for _, tag := range []string{"0", "1", "fresh0"} {
			d, err := pull(t.Context(), t, repo(t, tag)).Digest()
			if err != nil {
				t.Fatal(err)
			}
			digests[d.String()] = true
		}
		if len(digests) != 1 {
			t.Errorf("the same build has digests %v", digests)
		}
	})
}

// TestPruneWaitsForBuilds prunes while a build runs.
func TestPruneWaitsForBuilds(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	s := newSite(t, map[string]string{
		"Dockerfile": "FROM " + busybox(t) + "\nCOPY app /first\nRUN " + g.wait + "\nRUN cp /first /last\n", "app": "one",
	})
	build := s.start(s.args("--destination", repo(t, "1"))...)
	open := g.arrive(1)
	prune := s.start("prune", "--work-dir", s.work)
	interrupted := s.start("prune", "--work-dir", s.work)
	select {
	case <-prune.done:
		t.Fatalf("pruned below a build:\n%s", prune.out)
	case <-time.After(300 * time.Millisecond):
	}
	if err := interrupted.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if interrupted.code() != 130 {
		t.Errorf("exit code %d, want 130\n%s", interrupted.code(), interrupted.out)
	}
	open()
	if out, err := build.wait(); err != nil {
		t.Fatal(err, out)
	}
	if out, err := prune.wait(); err != nil {
		t.Fatal(err, out)
	}
	if got := files(t, pull(t.Context(), t, repo(t, "1"))); got["last"] != "one" {
		t.Errorf("/last is %q", got["last"])
	}
	s.empty()
}

// empty checks that nothing of size is left in the work directory.
func (s *site) empty() {
	s.t.Helper()
	total := int64(0)
	for _, p := range below(s.t, s.work) {
		fi, err := os.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if fi.Mode().IsRegular() {
			total += fi.Size()
		}
	}
	if total > 4<<10 {
		s.t.Errorf("%d bytes are left in %v", total, below(s.t, s.work))
	}
}

// TestPruneRemovesEverything prunes what builds of each kind have left, those that were killed included, and builds
// again.
func TestPruneRemovesEverything(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		dockerfile, word := sleeper(t)
		s := place(map[string]string{"Dockerfile": finished(t) + "RUN mkdir -m 0 /closed /closed/below\n", "killed": dockerfile})
		s.mustBuild("--no-push")
		killed := s.start(s.args("--no-push", "--dockerfile", filepath.Join(s.context, "killed"), "--no-cache")...)
		killed.waitFor(t, "step is running\n")
		killed.kill()
		await(t, "the processes of the step to end", func() bool { return len(processes(t, word)) == 0 })
		prune := s.start("prune", "--work-dir", s.work)
		out, err := prune.wait()
		if err != nil || !strings.Contains(out, "removed ") {
			t.Fatal(err, out)
		}
		s.empty()
		s.mustBuild("--destination", repo(t, "1"))
		if got := files(t, pull(t.Context(), t, repo(t, "1"))); got["first"] != "first\n" {
			t.Errorf("/first is %q", got["first"])
		}
	})
}

// TestPruneAmongBuilds prunes again and again while builds come and go.
func TestPruneAmongBuilds(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + busybox(t) + "\nCOPY app /first\nRUN cp /first /last\n", "app": "one"})
	var runs []*run
	for i := range 4 {
		runs = append(runs,
			s.start(s.args("--destination", repo(t, fmt.Sprint(i)))...),
			s.start("prune", "--work-dir", s.work, "--keep-storage", "1MB"))
	}
	for _, r := range runs {
		if out, err := r.wait(); err != nil {
			t.Error(err, out)
		}
	}
	for i := range 4 {
		if got := files(t, pull(t.Context(), t, repo(t, fmt.Sprint(i)))); got["last"] != "one" {
			t.Errorf("/last is %q", got["last"])
		}
	}
}
