package source_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// TestGitKeepDir: .git is that of a shallow clone which knows where it is from and nothing else.
func TestGitKeepDir(t *testing.T) {
	s := newGitServer(t)
	s.before = basicAuth("x-access-token", "hush")
	sub, dir := s.repository(t, "sub"), s.repository(t, "r")
	commit(t, sub, "in=1")
	commit(t, dir, "f=1")
	gitIn(t, dir, "-c", "http.extraHeader=Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("x-access-token:hush")),
		"submodule", "--quiet", "add", "--", s.URL+"/sub.git", "sub")
	gitIn(t, dir, "commit", "--quiet", "-m", "sub")
	head := gitIn(t, dir, "rev-parse", "HEAD")
	f := source.Fetch{Secrets: secrets(map[string]string{"GIT_AUTH_TOKEN." + strings.TrimPrefix(s.URL, "http://"): "hush"})}
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		return !strings.Contains(r.URL.Path, "/sub.git") && basicAuth("x-access-token", "hush")(w, r)
	}
	tree := gitTree(t, source.GitOptions{Remote: s.URL + "/r.git", KeepDir: true}, f)
	for _, name := range []string{".git/HEAD", ".git/refs/heads/main"} {
		if got := strings.TrimSpace(contents(t, tree, name)); got != head {
			t.Errorf("%s: %q, want %s", name, got, head)
		}
	}
	if got := contents(t, tree, "sub/.git"); got != "gitdir: ../.git/modules/sub\n" {
		t.Errorf("sub/.git: %q", got)
	}
	if config := contents(t, tree, ".git/config"); !strings.Contains(config, "url = "+s.URL+"/r.git\n") {
		t.Errorf("config: %s", config)
	}
	must(t, rootfs.Walk(tree, ".", func(name string, e *rootfs.Entry) error {
		if e.Header.Size == 0 || e.Header.Mode&0o111 != 0 {
			return nil
		}
		for _, secret := range []string{"hush", base64.StdEncoding.EncodeToString([]byte("x-access-token:hush")), "/repositories/"} {
			if strings.Contains(contents(t, tree, name), secret) {
				t.Errorf("%s holds %q", name, secret)
			}
		}
		return nil
	}))
	if _, err := tree.Lstat(".git/FETCH_HEAD"); err == nil {
		t.Error("FETCH_HEAD was left")
	}
}

// TestGitSubmodules: by absolute and relative URL, in each other, and not at all.
func TestGitSubmodules(t *testing.T) {
	s := newGitServer(t)
	inner, middle, outer := s.repository(t, "inner"), s.repository(t, "middle"), s.repository(t, "outer")
	commit(t, inner, "in=1")
	add := func(dir, address, path string) {
		gitIn(t, dir, "submodule", "--quiet", "add", "--", address, path)
		gitIn(t, dir, "commit", "--quiet", "-m", "sub")
	}
	add(middle, s.URL+"/inner.git", "deep/inner")
	gitIn(t, outer, "remote", "add", "origin", s.URL+"/outer.git")
	add(outer, "../middle.git", "sub")
	want := []string{".gitmodules", "sub/", "sub/.gitmodules", "sub/deep/", "sub/deep/inner/", "sub/deep/inner/in"}
	o, kept := source.GitOptions{Remote: s.URL + "/outer.git"}, t.TempDir()
	if diff := cmp.Diff(want, names(t, gitTree(t, o, source.Fetch{Dir: kept}))); diff != "" {
		t.Error(diff)
	}
	s.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "middle") || strings.Contains(r.URL.Path, "inner") {
			t.Errorf("fetched again: %v", r.URL)
		}
		return false
	}
	gitTree(t, o, source.Fetch{Dir: kept})
	o.SkipSubmodules = true
	if diff := cmp.Diff([]string{".gitmodules", "sub/"}, names(t, gitTree(t, o, source.Fetch{}))); diff != "" {
		t.Error(diff)
	}
	o = source.GitOptions{Remote: s.URL + "/outer.git", Subdir: "sub/deep"}
	if diff := cmp.Diff([]string{"inner/", "inner/in"}, names(t, gitTree(t, o, source.Fetch{Dir: kept}))); diff != "" {
		t.Error(diff)
	}
}

func TestSubmoduleURL(t *testing.T) {
	for _, tt := range []struct{ parent, address, want string }{
		{"https://h/a/b.git", "../c.git", "https://h/a/c.git"},
		{"https://h/a/b.git/", "../../c.git", "https://h/c.git"},
		{"https://h/a/b.git", "../../../c.git", ""},
		{"https://h/a/b.git", "./c", "https://h/a/b.git/c"},
		{"https://h", "./c", "https://h/c"},
		{"https://h/a/b.git", "https://other/c", "https://other/c"},
		{"https://h/a/b.git", "/etc", "/etc"},
		{"git@h:a/b.git", "../c.git", "git@h:a/c.git"},
		{"git@h:a/b.git", "../../c.git", "git@h:c.git"},
		{"git@h:b.git", ".././c.git", "git@h:c.git"},
		{"git@h:b.git", "../../c.git", ""},
		{"h:/srv/b.git", "../../c.git", "h:/c.git"},
		{"ssh://git@h:22/a/b", "../c", "ssh://git@h:22/a/c"},
	} {
		got, err := source.ResolveSubmoduleForTest(tt.parent, tt.address)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s of %s: %q, %v", tt.address, tt.parent, got, err)
		}
	}
}
