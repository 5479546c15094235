package build_test

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/push"
)

// serveSources serves a repository at /r.git and a file at /file.
func serveSources(t *testing.T) *httptest.Server {
	t.Helper()
	dir := t.TempDir()
	script := `git init -q -b main r.git && cd r.git && echo in git >f && printf 'FROM scratch\nCOPY f /\n' >Dockerfile && git add . && git commit -q -m m`
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
	cmd.Dir = dir
	identity := []string{"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b"}
	cmd.Env = append(identity, "PATH="+os.Getenv("PATH"), "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	core, err := exec.CommandContext(t.Context(), "git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(core)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			if r.Header.Get("Authorization") != "Bearer hush" {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, "by http")
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// buildFiles builds and returns the regular files of the image by name.
func buildFiles(t *testing.T, o build.Options) map[string]string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	o.Outputs = []push.Output{{Type: push.OutputLocal, Dest: out}}
	if _, err := build.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err := filepath.WalkDir(out, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, out)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestContextsFromElsewhere builds from everything that is no local directory.
func TestContextsFromElsewhere(t *testing.T) {
	s := serveSources(t)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, body := range map[string]string{"sub/Dockerfile": "FROM scratch\nCOPY f /\n", "sub/f": "in a tar"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	got := buildFiles(t, build.Options{Context: "-", Stdin: &archive, ContextDir: "sub", WorkDir: work})
	if len(got) != 1 || got["/f"] != "in a tar" {
		t.Errorf("archive: %q", got)
	}
	got = buildFiles(t, build.Options{Context: s.URL + "/r.git#main", WorkDir: work})
	if len(got) != 1 || got["/f"] != "in git\n" {
		t.Errorf("git: %q", got)
	}
	file := strings.NewReader("FROM scratch\nCOPY <<EOF /f\nalone\nEOF\n")
	got = buildFiles(t, build.Options{Context: "-", Stdin: file, WorkDir: work})
	if len(got) != 1 || got["/f"] != "alone\n" {
		t.Errorf("Dockerfile: %q", got)
	}
}

// TestAddFromElsewhere adds a file that takes a secret, and a repository.
func TestAddFromElsewhere(t *testing.T) {
	s := serveSources(t)
	src := context(t, map[string]string{"Dockerfile": "FROM scratch\nADD " + s.URL + "/file /a/\nADD " + s.URL + "/r.git /b/\n"})
	other := context(t, map[string]string{"f": "named", "ignored": "", ".dockerignore": "ignored"})
	files := func(o build.Options) map[string]string {
		o.WorkDir = t.TempDir()
		o.Secrets = map[string]build.Secret{"HTTP_AUTH_TOKEN_127.0.0.1": build.SecretValue([]byte("hush"))}
		return buildFiles(t, o)
	}
	got := files(build.Options{Context: src})
	if len(got) != 3 || got["/a/file"] != "by http" || got["/b/f"] != "in git\n" {
		t.Errorf("ADD: %q", got)
	}
	got = files(build.Options{
		Context:  "-",
		Stdin:    strings.NewReader("FROM scratch\nCOPY --from=x / /\n"),
		Contexts: map[string]string{"x": other},
	})
	if got["/f"] != "named" || len(got) != 2 {
		t.Errorf("named context: %q", got)
	}
}
