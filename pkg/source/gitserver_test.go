package source_test

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// gitIn runs git in dir, for a fixture.
func gitIn(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=2001-02-03T04:05:06Z",
		"GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.com", "GIT_COMMITTER_DATE=2002-03-04T05:06:07Z",
		"GIT_ALLOW_PROTOCOL=file:http:ssh",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit makes a commit of all of files, as write takes them, and returns its id.
func commit(t testing.TB, dir string, files ...string) string {
	t.Helper()
	from := write(t, files...)
	gitIn(t, dir, "--work-tree="+from, "add", "-A", ".")
	gitIn(t, dir, "commit", "--quiet", "--allow-empty", "-m", strings.Join(files, " "))
	return gitIn(t, dir, "rev-parse", "HEAD")
}

// gitServer serves the repositories of a directory over http.
type gitServer struct {
	*httptest.Server
	dir string
	// requests that came in, and those of them that were more than a GET.
	requests, posts atomic.Int64
	// before, when set, answers a request if it returns true.
	before func(http.ResponseWriter, *http.Request) bool
}

func newGitServer(t testing.TB) *gitServer {
	t.Helper()
	s := &gitServer{dir: t.TempDir()}
	core := gitIn(t, s.dir, "--exec-path")
	backend := &cgi.Handler{
		Path:   filepath.Join(core, "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + s.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"},
		Stderr: testWriter{t},
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if r.Method == http.MethodPost {
			s.posts.Add(1)
		}
		if s.before != nil && s.before(w, r) {
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// repository makes an empty one.
func (s *gitServer) repository(t testing.TB, name string, args ...string) string {
	t.Helper()
	dir := filepath.Join(s.dir, name)
	gitIn(t, s.dir, append(append([]string{"init", "--quiet", "-b", "main"}, args...), dir)...)
	// The served repository is the .git of the one that commits are made in.
	must(t, os.Symlink(filepath.Join(name, ".git"), dir+".git"))
	return dir
}

// testWriter gives what a server says to the log.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

// oldProtocol lets a server speak the first protocol, in which only a fetch takes more than a GET.
func oldProtocol(_ http.ResponseWriter, r *http.Request) bool {
	r.Header.Del("Git-Protocol")
	return false
}
