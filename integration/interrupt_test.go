package integration

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// ordinary is the id of a user of whom the machine knows nothing.
const ordinary = 54321

// everywhere runs a test for each driver, as the user who runs the tests and as an ordinary one.
func everywhere(t *testing.T, test func(t *testing.T, place func(files map[string]string) *site)) {
	for _, isolation := range []string{"overlay", "directory"} {
		for _, user := range []string{"root", "user"} {
			t.Run(isolation+"-"+user, func(t *testing.T) {
				t.Parallel()
				test(t, func(files map[string]string) *site {
					s := newSite(t, files)
					s.isolation = isolation
					if user == "user" {
						s.as(ordinary)
					}
					return s
				})
			})
		}
	}
}

// sleeper is a Dockerfile whose second step never ends, with a word that only the processes of that step have
// in their command line. Some of them have left their session, and some ignore signals.
func sleeper(t *testing.T) (dockerfile, word string) {
	t.Helper()
	word = fmt.Sprintf("marker%d%s", os.Getpid(), strings.ToLower(strings.NewReplacer("/", "", "_", "").Replace(t.Name())))
	return fmt.Sprintf(`FROM %s
RUN echo first > /first
RUN setsid sh -c 'trap "" INT TERM HUP; sleep 4000; : %s' & \
    sh -c 'trap "" INT TERM; echo > /second; echo step is running; sleep 4000; : %[2]s'
RUN echo third > /third
`, busybox(t), word), word
}

// finished is sleeper without what does not end.
func finished(t *testing.T) string {
	t.Helper()
	return "FROM " + busybox(t) + "\nRUN echo first > /first\nRUN echo > /second\nRUN echo third > /third\n"
}

// TestSignal ends builds with the signals that users and schedulers send.
func TestSignal(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			dockerfile, word := sleeper(t)
			s := place(map[string]string{"Dockerfile": dockerfile})
			dest := repo(t, "x")
			r := s.start(s.args("--destination", dest, "--oci-layout-path", filepath.Join(s.dir, "home", "out"))...)
			r.waitFor(t, "step is running\n")
			if len(processes(t, word)) < 2 {
				t.Fatal("the test does not see the processes of the step")
			}
			if err := r.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if r.code() != 130 {
				t.Errorf("%s: exit code %d, want 130\n%s", sig, r.code(), r.out)
			}
			if !strings.Contains(r.out.String(), "interrupted") {
				t.Errorf("%s: nothing says so:\n%s", sig, r.out)
			}
			// Nothing outlives the program, not even for a moment.
			if ids := processes(t, word); len(ids) > 0 {
				t.Errorf("%s: processes %v go on", sig, ids)
			}
			nothingMounted(t, s.dir)
			s.clean()
			if left := below(t, filepath.Join(s.dir, "home", "out")); len(left) > 0 {
				t.Errorf("%s: written: %v", sig, left)
			}
			absent(t, dest)
		}
	})
}

// TestSecondSignal sends a signal again before the program can be done with the first.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	dockerfile, word := sleeper(t)
	s := newSite(t, map[string]string{"Dockerfile": dockerfile})
	r := s.start(s.args("--no-push")...)
	r.waitFor(t, "step is running\n")
	for range 2 {
		// On a busy machine it may be done before the second one is sent.
		if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		// Two signals that are pending at once are one.
		time.Sleep(time.Millisecond)
	}
	if code := r.code(); code != 130 && code != -1 {
		t.Errorf("exit code %d\n%s", code, r.out)
	}
	s.recovers(word)
}

// TestKilledInRun kills a build whose step is running.
func TestKilledInRun(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		dockerfile, word := sleeper(t)
		s := place(map[string]string{"Dockerfile": dockerfile})
		dest := repo(t, "killed")
		r := s.start(s.args("--destination", dest)...)
		r.waitFor(t, "step is running\n")
		r.kill()
		absent(t, dest)
		s.recovers(word)
	})
}

// recovers checks that the processes of a build that was killed end, that the next build in the same place
// makes what it would have made in a fresh one, and that it removes what was left behind.
func (s *site) recovers(word string) {
	t := s.t
	t.Helper()
	await(t, "the processes of the step to end", func() bool { return len(processes(t, word)) == 0 })
	nothingMounted(t, s.dir)
	s.lay(map[string]string{"Dockerfile": finished(t)})
	s.rebuilds()
}

// rebuilds builds in this place and in a fresh one, and compares.
func (s *site) rebuilds() {
	t := s.t
	t.Helper()
	since := time.Now().Add(-time.Hour)
	s.age()
	s.mustBuild("--destination", repo(t, "again"))
	s.clean()
	fresh := *s
	fresh.work = filepath.Join(s.dir, "home", "fresh")
	fresh.mustBuild("--destination", repo(t, "fresh"))
	sameImages(t, pull(t.Context(), t, repo(t, "fresh")), pull(t.Context(), t, repo(t, "again")), since)
}

// age makes what lies in the temporary folder look as if it had been there for long: very young locks are left alone.
func (s *site) age() {
	s.t.Helper()
	locks, err := filepath.Glob(filepath.Join(s.work, "tmp", "*.lock"))
	if err != nil {
		s.t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	for _, l := range locks {
		if err := os.Chtimes(l, long, long); err != nil {
			s.t.Fatal(err)
		}
	}
}

// clean checks that the work directory holds nothing that no build can find.
func (s *site) clean() {
	t := s.t
	t.Helper()
	if left := below(t, filepath.Join(s.work, "tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// The drivers keep what they have in a folder for each way in which ids are mapped.
	if left := s.layers("roots"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	known := map[string]bool{}
	for _, c := range s.layers("chains") {
		target, err := os.Readlink(c)
		if err != nil {
			t.Fatal(err)
		}
		known[filepath.Base(target)] = true
	}
	for _, d := range s.layers("data") {
		if !known[filepath.Base(d)] {
			t.Errorf("no build can find %s", d)
		}
	}
}

// layers lists what drivers keep of one kind.
func (s *site) layers(kind string) []string {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.work, "layers", "*", "*", kind, "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// TestKilledWhileExtracting kills a build that has got half of its base's layer.
func TestKilledWhileExtracting(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		d := newDepths(t, "")
		half := make(chan struct{})
		// What has no client to wait for any more ends with the proxy.
		d.proxy.Inject(registrytest.Times(1, http.MethodGet, "/blobs/"+d.layers[1].String(), stall(4<<20, half)))
		s := place(map[string]string{"Dockerfile": "FROM " + d.base + "\nRUN echo third > /third\n"})
		r := s.start(s.args("--no-push")...)
		select {
		case <-half:
		case <-r.done:
			t.Fatalf("ended: %v\n%s", r.err, r.out)
		case <-time.After(patience):
			t.Fatal("nothing was downloaded")
		}
		if s.isolation == "overlay" {
			await(t, "a file to be extracted", func() bool {
				return slices.ContainsFunc(below(t, s.work), func(p string) bool { return filepath.Base(p) == "busybox" })
			})
		}
		r.kill()
		s.rebuilds()
	})
}

// stall sends n bytes of the body, says so, and nothing more until the client has gone.
func stall(n int, sent chan<- struct{}) registrytest.Fault {
	return func(_ *http.Request, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&stallWriter{ResponseWriter: w, left: n, sent: sent, gone: r.Context().Done()}, r)
		})
	}
}

type stallWriter struct {
	http.ResponseWriter
	left int
	sent chan<- struct{}
	gone <-chan struct{}
}

func (w *stallWriter) Write(p []byte) (int, error) {
	if len(p) < w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	close(w.sent)
	<-w.gone
	panic(http.ErrAbortHandler)
}

// TestKilledInCopy kills a build that is writing a layer.
func TestKilledInCopy(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{
		"Dockerfile": "FROM " + busybox(t) + "\nCOPY large /\nCOPY small /\n", "large": noise("copy", 96<<20), "small": "small",
	})
	r := s.start(s.args("--no-push")...)
	await(t, "a layer to be written", func() bool {
		parts, err := filepath.Glob(filepath.Join(s.work, "tmp", "build-*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(parts, func(p string) bool {
			fi, err := os.Stat(p)
			return err == nil && fi.Mode().IsRegular() && fi.Size() > 2<<20
		})
	})
	r.kill()
	s.rebuilds()
}

// TestInterruptedPush ends a build that is sending its image.
func TestInterruptedPush(t *testing.T) {
	t.Parallel()
	proxy := registrytest.Before(t, registry(t).Addr)
	proxy.Inject(registrytest.Times(1, http.MethodPut, "/manifests/", registrytest.Hang()))
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + busybox(t) + "\nCOPY app /\n", "app": "one"})
	dest := proxy.Host + "/tests/" + path(t.Name()) + ":1"
	r := s.start(s.args("--destination", dest)...)
	await(t, "the push", func() bool { return proxy.Count(http.MethodPut, "/manifests/") > 0 })
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r.code() != 130 {
		t.Errorf("exit code %d, want 130\n%s", r.code(), r.out)
	}
	absent(t, repo(t, "1"))
	s.clean()
	s.rebuilds()
}
