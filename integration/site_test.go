package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gobuild-dev/gobuild/integration/internal/imagediff"
)

// patience bounds what a test waits for. It says nothing about speed: only what never comes takes as long.
const patience = 50 * time.Second

// site is a place to build in: a context, a work directory and a home of a test's own, and the user who builds.
type site struct {
	t       *testing.T
	dir     string
	context string
	work    string
	// isolation is the value of --isolation.
	isolation string
	// cred is who builds; nil is who runs the tests.
	cred *syscall.Credential
	// env is added to the environment.
	env []string
	// bin is the program.
	bin string
	// through is a command that ends in executing its arguments; the program is started by it.
	through []string
}

// newSite makes a site whose context holds files, by their path.
func newSite(t *testing.T, files map[string]string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), isolation: "auto", bin: gobuild(t)}
	s.context, s.work = filepath.Join(s.dir, "context"), filepath.Join(s.dir, "work")
	s.env = []string{"HOME=" + filepath.Join(s.dir, "home")}
	for _, dir := range []string{"context", "home"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.lay(files)
	return s
}

// lay writes files into the context, in place of those that are there.
func (s *site) lay(files map[string]string) {
	s.t.Helper()
	for path, data := range files {
		path = filepath.Join(s.context, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}

// as lets the user with this id, of whom nothing else is known, build here.
func (s *site) as(id uint32) *site {
	s.t.Helper()
	s.cred = &syscall.Credential{Uid: id, Gid: id, NoSetGroups: false}
	for _, dir := range []string{s.dir, s.context, filepath.Join(s.dir, "home")} {
		if err := os.Chown(dir, int(id), int(id)); err != nil {
			s.t.Fatal(err)
		}
	}
	// t.TempDir's own parent need not be open either.
	if err := os.Chmod(filepath.Dir(s.dir), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return s
}

// args are those of a build here, which may speak plain HTTP to every registry, followed by more.
func (s *site) args(more ...string) []string {
	return append([]string{
		"--context", s.context, "--work-dir", s.work, "--isolation", s.isolation, "--progress", "plain",
		"--insecure", "--insecure-pull",
	}, more...)
}

// run is one run of the program.
type run struct {
	cmd  *exec.Cmd
	out  *log
	done chan struct{}
	err  error // once done is closed
}

// start runs the program with exactly these arguments, for no longer than the test's patience.
func (s *site) start(args ...string) *run {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	words := slices.Concat(s.through, []string{s.bin}, args)
	r := &run{cmd: exec.CommandContext(ctx, words[0], words[1:]...), out: &log{}, done: make(chan struct{})}
	r.cmd.Dir = s.dir
	r.cmd.Env = append(os.Environ(), s.env...)
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	// What outlives the program and keeps its output open does not keep the test waiting.
	r.cmd.WaitDelay = 5 * time.Second
	if err := r.cmd.Start(); err != nil {
		cancel()
		s.t.Fatal(err)
	}
	go func() {
		defer cancel()
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	s.t.Cleanup(func() { r.kill() })
	return r
}

// kill ends the program in a way that it cannot see coming.
func (r *run) kill() {
	_ = r.cmd.Process.Kill() // it may have ended
	<-r.done
}

// wait returns what the program printed and, if that is not 0, how it ended.
func (r *run) wait() (string, error) {
	<-r.done
	if r.err != nil {
		return r.out.String(), fmt.Errorf("gobuild: %w\n%s", r.err, r.out)
	}
	return r.out.String(), nil
}

// code is the exit code; -1 after a signal.
func (r *run) code() int {
	<-r.done
	return r.cmd.ProcessState.ExitCode()
}

// waitFor waits until the program has printed text.
func (r *run) waitFor(t *testing.T, text string) {
	t.Helper()
	await(t, fmt.Sprintf("output of %q", text), func() bool {
		select {
		case <-r.done:
			if !strings.Contains(r.out.String(), text) {
				t.Fatalf("ended without %q: %v\n%s", text, r.err, r.out)
			}
		default:
		}
		return strings.Contains(r.out.String(), text)
	})
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// build builds and returns what was printed.
func (s *site) build(more ...string) (string, error) {
	s.t.Helper()
	return s.start(s.args(more...)...).wait()
}

// mustBuild is build for what has to work.
func (s *site) mustBuild(more ...string) string {
	s.t.Helper()
	out, err := s.build(more...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// mustFail builds what cannot work, and checks that all words are in the output.
func (s *site) mustFail(words []string, more ...string) string {
	s.t.Helper()
	r := s.start(s.args(more...)...)
	out, err := r.wait()
	if err == nil {
		s.t.Fatalf("built what should fail:\n%s", out)
	}
	if r.code() != 1 {
		s.t.Errorf("exit code %d, want 1:\n%s", r.code(), out)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			s.t.Errorf("no %q in the output:\n%s", w, out)
		}
	}
	return out
}

// log is a buffer that may be read while it is written.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// repo is a reference of a test's own in the shared registry.
func repo(t *testing.T, tag string) string {
	t.Helper()
	return fmt.Sprintf("%s/tests/%s:%s", registry(t).Addr, path(t.Name()), tag)
}

// path makes a repository's name of a test's.
func path(test string) string {
	return strings.ToLower(strings.NewReplacer("_", "-", "=", "-").Replace(test))
}

// absent checks that a reference was not pushed.
func absent(t *testing.T, ref string) {
	t.Helper()
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(r, remote.WithContext(t.Context())); err == nil {
		t.Errorf("%s was pushed", ref)
	}
}

// files returns the contents of an image's regular files, by path; of large files only their digest.
func files(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	rc := mutate.Extract(img)
	defer rc.Close()
	m, err := readTar(rc)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sameImages checks that images are equal in all that does not depend on when they were built.
func sameImages(t *testing.T, want, got v1.Image, since time.Time) {
	t.Helper()
	var c imagediff.Comparer
	diffs, err := c.Compare(want, got, imagediff.Options{Since: since})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diffs {
		t.Error(d)
	}
}

// processes returns the ids of those with this word in their command line.
func processes(t *testing.T, word string) []string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, n := range names {
		if data, err := os.ReadFile(n); err == nil && bytes.Contains(data, []byte(word)) {
			ids = append(ids, filepath.Base(filepath.Dir(n)))
		}
	}
	return ids
}

// nothingMounted checks that no mount is left below dir.
func nothingMounted(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, " "+dir+"/") {
			t.Errorf("still mounted: %s", line)
		}
	}
}

// below lists the paths of everything in dir, which need not exist.
func below(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if p != dir {
			list = append(list, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// noise returns n bytes that no compressor makes smaller, the same for each seed.
func noise(seed string, n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", seed, i))
		b.Write(sum[:])
	}
	return b.String()[:n]
}
