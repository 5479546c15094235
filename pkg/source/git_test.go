package source_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// remoteGit opens a remote that the test closes.
func remoteGit(t *testing.T, o source.GitOptions, f source.Fetch) source.Remote {
	t.Helper()
	f.TempDir = t.TempDir()
	r, err := source.NewGit(o, f)
	must(t, err)
	t.Cleanup(func() {
		must(t, r.Close())
		if left, err := os.ReadDir(f.TempDir); err != nil || len(left) > 0 {
			t.Errorf("left in the temporary directory: %v, %v", left, err)
		}
	})
	return r
}

func gitTree(t *testing.T, o source.GitOptions, f source.Fetch) rootfs.Tree {
	t.Helper()
	tree, err := remoteGit(t, o, f).Tree(t.Context())
	must(t, err)
	return tree
}

// gitError returns the error that either of the methods gives.
func gitFails(t *testing.T, o source.GitOptions, f source.Fetch) string {
	t.Helper()
	f.TempDir = t.TempDir()
	r, err := source.NewGit(o, f)
	if err == nil {
		defer r.Close()
		_, err = r.Tree(t.Context())
	}
	if err == nil {
		t.Fatalf("%+v: no error", o)
	}
	return err.Error()
}

// history is a repository with a branch of two commits, tags, a pull request, and a commit that nothing names.
type history struct {
	*gitServer
	url                                              string
	first, second, pull, light, annotated, forgotten string
}

func newHistory(t *testing.T) *history {
	h := &history{gitServer: newGitServer(t)}
	dir := h.repository(t, "r")
	h.url = h.URL + "/r.git"
	h.first = commit(t, dir, "f=first", "d/g")
	gitIn(t, dir, "tag", "light")
	h.light = h.first
	gitIn(t, dir, "tag", "-a", "-m", "annotated", "annotated")
	h.annotated = gitIn(t, dir, "rev-parse", "annotated")
	gitIn(t, dir, "checkout", "--quiet", "--detach")
	h.pull = commit(t, dir, "f=pull")
	gitIn(t, dir, "update-ref", "refs/pull/1/head", "HEAD")
	h.forgotten = commit(t, dir, "f=forgotten")
	gitIn(t, dir, "checkout", "--quiet", "--force", "main")
	h.second = commit(t, dir, "f=second")
	return h
}

func TestGitRefs(t *testing.T) {
	h := newHistory(t)
	for _, tt := range []struct{ ref, want, commit string }{
		{"", "second", h.second},
		{"HEAD", "second", h.second},
		{"main", "second", h.second},
		{"heads/main", "second", h.second},
		{"refs/heads/main", "second", h.second},
		{"light", "first", h.light},
		{"annotated", "first", h.first},
		{"refs/tags/annotated", "first", h.first},
		{"refs/pull/1/head", "pull", h.pull},
		{"pull/1/head", "pull", h.pull},
		{h.second, "second", h.second},
		{h.first, "first", h.first},
		{h.annotated, "first", h.annotated},
		{h.forgotten, "forgotten", h.forgotten},
	} {
		t.Run(tt.ref, func(t *testing.T) {
			r := remoteGit(t, source.GitOptions{Remote: h.url, Ref: tt.ref}, source.Fetch{})
			key, err := r.Key(t.Context())
			must(t, err)
			if !strings.Contains(key, tt.commit) {
				t.Errorf("key %q, want %s", key, tt.commit)
			}
			tree, err := r.Tree(t.Context())
			must(t, err)
			if got := contents(t, tree, "f"); got != tt.want {
				t.Errorf("got %q", got)
			}
			when, err := r.Time(t.Context())
			must(t, err)
			if !when.Equal(time.Date(2002, 3, 4, 5, 6, 7, 0, time.UTC)) {
				t.Errorf("time %v", when)
			}
		})
	}
}

// TestGitKey: what changes the tree changes the key, and nothing is fetched for it.
func TestGitKey(t *testing.T) {
	h := newHistory(t)
	h.before = oldProtocol
	seen := map[string]source.GitOptions{}
	for _, o := range []source.GitOptions{
		{}, {Ref: "light"}, {Subdir: "d"}, {KeepDir: true}, {KeepDir: true, Ref: h.second}, {SkipSubmodules: true}, {CommitTime: true},
	} {
		o.Remote = h.url
		k, err := remoteGit(t, o, source.Fetch{}).Key(t.Context())
		must(t, err)
		if other, ok := seen[k]; ok {
			t.Errorf("%+v and %+v have one key, %q", o, other, k)
		}
		seen[k] = o
	}
	same := ""
	for _, o := range []source.GitOptions{{}, {Ref: "main"}, {Ref: h.second}, {Subdir: "/./"}, {Checksum: h.second, FetchByCommit: true}, {Checksum: strings.ToUpper(h.second[:9])}} {
		o.Remote = h.url
		k, err := remoteGit(t, o, source.Fetch{}).Key(t.Context())
		must(t, err)
		if same != "" && k != same {
			t.Errorf("%+v: key %q, want %q", o, k, same)
		}
		same = k
	}
	if n := h.posts.Load(); n != 0 {
		t.Errorf("%d fetches", n)
	}
	before := h.requests.Load()
	for _, o := range []source.GitOptions{{Ref: h.second}, {Ref: "main", Checksum: h.first, FetchByCommit: true}} {
		o.Remote = h.url
		_, err := remoteGit(t, o, source.Fetch{}).Key(t.Context())
		must(t, err)
	}
	if h.requests.Load() != before {
		t.Error("the key of a commit took a request")
	}
}

// TestGitOldServers: what a server does not advertise is not given out by those that speak the first protocol.
func TestGitOldServers(t *testing.T) {
	h := newHistory(t)
	h.before = oldProtocol
	dir := t.TempDir()
	for _, ref := range []string{"main", h.second, "annotated", h.annotated, "pull/1/head", h.first} {
		gitTree(t, source.GitOptions{Remote: h.url, Ref: ref}, source.Fetch{Dir: dir})
	}
	if s := gitFails(t, source.GitOptions{Remote: h.url, Ref: h.forgotten}, source.Fetch{Dir: dir}); !strings.Contains(s, "does not contain commit "+h.forgotten) {
		t.Error(s)
	}
	gitIn(t, filepath.Join(h.dir, "r"), "tag", "remembered", h.forgotten)
	tree := gitTree(t, source.GitOptions{Remote: h.url, Ref: h.forgotten}, source.Fetch{Dir: dir})
	if contents(t, tree, "f") != "forgotten" {
		t.Error("another commit")
	}
}

// TestGitPlainFiles: a server may know nothing of git.
func TestGitPlainFiles(t *testing.T) {
	h := newHistory(t)
	gitIn(t, filepath.Join(h.dir, "r"), "update-server-info")
	files := http.FileServer(http.Dir(h.dir))
	h.before = func(w http.ResponseWriter, r *http.Request) bool {
		files.ServeHTTP(w, r)
		return true
	}
	for _, ref := range []string{"main", h.first, "annotated"} {
		gitTree(t, source.GitOptions{Remote: h.url, Ref: ref}, source.Fetch{})
	}
}

func TestGitErrors(t *testing.T) {
	h := newHistory(t)
	ones := strings.Repeat("1", 40)
	blob := gitIn(t, filepath.Join(h.dir, "r"), "rev-parse", "main:f")
	gitIn(t, filepath.Join(h.dir, "r"), "tag", "blob", blob)
	h.repository(t, "empty")
	for _, tt := range []struct {
		o    source.GitOptions
		want string
	}{
		{source.GitOptions{Ref: "none"}, "repository does not contain ref none"},
		{source.GitOptions{Ref: "ma*"}, "repository does not contain ref ma*"},
		{source.GitOptions{Ref: "--upload-pack=touch /tmp/x"}, "invalid git ref"},
		{source.GitOptions{Ref: "a\nb"}, "invalid git ref"},
		{source.GitOptions{Ref: ones}, "repository does not contain commit " + ones},
		{source.GitOptions{Ref: "blob"}, "is no commit"},
		{source.GitOptions{Remote: h.URL + "/empty.git"}, "no default branch"},
		{source.GitOptions{Remote: h.URL + "/none.git"}, "not found"},
		{source.GitOptions{Checksum: "12345"}, "expected checksum to match 12345, got " + h.second},
		{source.GitOptions{Ref: h.first, Checksum: "12345"}, "expected checksum to match 12345, got " + h.first},
		{source.GitOptions{Ref: "annotated", Checksum: "12345"}, "got " + h.annotated + " or " + h.first},
		{source.GitOptions{Checksum: "main"}, "invalid checksum main for Git URL"},
		{source.GitOptions{FetchByCommit: true}, "fetch-by-commit requires a checksum"},
		{source.GitOptions{FetchByCommit: true, Checksum: "1234"}, "fetch-by-commit requires a full commit SHA checksum"},
		{source.GitOptions{Subdir: "none"}, "no such file"},
		{source.GitOptions{Subdir: "f"}, `contains non-directory "f"`},
		{source.GitOptions{Remote: "ext::sh -c 'touch /tmp/x'"}, "transport 'ext' not allowed"},
		{source.GitOptions{Remote: "file:///etc"}, "are fetched with http"},
		{source.GitOptions{Remote: "/etc"}, "neither a URL"},
		{source.GitOptions{Remote: "-oProxyCommand=x:y"}, "neither a URL"},
		{source.GitOptions{Remote: "ssh://-oProxyCommand=x/y"}, "names no host"},
		{source.GitOptions{Remote: "git@-oProxyCommand=x:y"}, "neither a URL"},
		{source.GitOptions{Remote: "http://u:p@h\x7f/x.git"}, "control character"},
	} {
		if tt.o.Remote == "" {
			tt.o.Remote = h.url
		}
		if s := gitFails(t, tt.o, source.Fetch{}); !strings.Contains(s, tt.want) {
			t.Errorf("%+v: %s", tt.o, s)
		}
	}
	if _, err := os.Lstat("/tmp/x"); err == nil {
		t.Error("something was run")
	}
}

func TestGitChecksum(t *testing.T) {
	h := newHistory(t)
	for _, o := range []source.GitOptions{
		{Checksum: h.second}, {Checksum: h.second[:7]}, {Checksum: strings.ToUpper(h.second[:7])},
		{Ref: "annotated", Checksum: h.first}, {Ref: "annotated", Checksum: h.annotated[:10]}, {Ref: h.first, Checksum: h.first[:3]},
	} {
		o.Remote = h.url
		gitTree(t, o, source.Fetch{})
	}
	tree := gitTree(t, source.GitOptions{Remote: h.url, Ref: "main", Checksum: h.first, FetchByCommit: true}, source.Fetch{})
	if contents(t, tree, "f") != "first" {
		t.Error("fetch-by-commit took what the branch names now")
	}
}

// TestGitModes: neither the umask nor who runs the build is seen.
func TestGitModes(t *testing.T) {
	s := newGitServer(t)
	dir := s.repository(t, "r")
	from := write(t, "x=1", "d/y", "l -> x")
	must(t, os.Chmod(filepath.Join(from, "x"), 0o700))
	gitIn(t, dir, "--work-tree="+from, "add", "-A", ".")
	gitIn(t, dir, "commit", "--quiet", "-m", "m")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for _, keep := range []bool{false, true} {
		tree := gitTree(t, source.GitOptions{Remote: s.URL + "/r.git", KeepDir: keep, CommitTime: true}, source.Fetch{})
		for name, mode := range map[string]int64{".": 0o755, "x": 0o755, "d": 0o755, "d/y": 0o644, "l": 0o777} {
			fi, err := tree.Lstat(name)
			must(t, err)
			h := rootfs.EntryOf(fi).Header
			if h.Mode != mode || h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(time.Date(2002, 3, 4, 5, 6, 7, 0, time.UTC)) {
				t.Errorf("%s: %+v", name, h)
			}
		}
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

// TestGitKeepDir: .git is that of a shallow clone which knows where it is from and nothing else.
func TestGitKeepDir(t *testing.T) {
	s := newGitServer(t)
	s.before = basicAuth("x-access-token", "hush")
	sub, dir := s.repository(t, "sub"), s.repository(t, "r")
	commit(t, sub, "in=1")
	commit(t, dir, "f=1")
	gitIn(t, dir, "-c", "http.extraHeader=Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("x-access-token:hush")),
		"submodule", "--quiet", "add", "--", s.URL+"/sub.git", "sub")
	second := commit(t, dir, "f=2", ".gitmodules="+contentsOf(t, filepath.Join(dir, ".gitmodules")))
	_ = second
	gitIn(t, dir, "-c", "protocol.file.allow=always", "update-index", "--add", "--cacheinfo", "160000,"+gitIn(t, sub, "rev-parse", "HEAD")+",sub")
	gitIn(t, dir, "commit", "--quiet", "-m", "again")
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

func contentsOf(t *testing.T, name string) string {
	b, err := os.ReadFile(name)
	must(t, err)
	return string(b)
}

func basicAuth(user, password string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == user && p == password {
			return false
		}
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, "you sent "+r.Header.Get("Authorization"), http.StatusUnauthorized)
		return true
	}
}

func TestGitCredentials(t *testing.T) {
	h := newHistory(t)
	host := strings.TrimPrefix(h.URL, "http://")
	with := strings.Replace(h.url, "//", "//user:hush@", 1)
	header := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:hush"))
	for _, tt := range []struct {
		name, user, url string
		secrets         map[string]string
		ok              bool
	}{
		{"none", "user", h.url, nil, false},
		{"of the URL", "user", with, nil, true},
		{"of the URL, wrong", "other", with, nil, false},
		{"token", "x-access-token", h.url, map[string]string{"GIT_AUTH_TOKEN": "hush"}, true},
		{"token of the host first", "x-access-token", h.url, map[string]string{"GIT_AUTH_TOKEN": "no", "GIT_AUTH_TOKEN." + host: "hush"}, true},
		{"token of another host", "x-access-token", h.url, map[string]string{"GIT_AUTH_TOKEN.example.com": "hush"}, false},
		{"header before token", "user", h.url, map[string]string{"GIT_AUTH_HEADER": header, "GIT_AUTH_TOKEN": "no"}, true},
		{"header of the host", "user", h.url, map[string]string{"GIT_AUTH_HEADER." + host: header}, true},
		{"secret before the URL", "x-access-token", with, map[string]string{"GIT_AUTH_TOKEN": "hush"}, true},
		{"with a line break", "x-access-token", h.url, map[string]string{"GIT_AUTH_HEADER": "hush\nx"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.before = basicAuth(tt.user, "hush")
			f := source.Fetch{Secrets: secrets(tt.secrets)}
			if tt.ok {
				gitTree(t, source.GitOptions{Remote: tt.url}, f)
				return
			}
			if s := gitFails(t, source.GitOptions{Remote: tt.url}, f); strings.Contains(s, "hush") || strings.Contains(s, header[6:]) {
				t.Errorf("a secret in %s", s)
			}
		})
	}
}

// TestGitHostile: what is in a repository runs nothing and leads nowhere.
func TestGitHostile(t *testing.T) {
	s := newGitServer(t)
	victim := s.repository(t, "victim")
	id := commit(t, victim, "secret=1")
	mark := filepath.Join(t.TempDir(), "run")
	for name, tt := range map[string]struct {
		modules, subdir, want string
	}{
		"submodule of a file":          {modules: "url = file://" + victim, want: "are fetched with http"},
		"submodule of a path":          {modules: "url = " + victim, want: "neither a URL"},
		"submodule of a relative path": {modules: "url = ./../../../../../../../../" + victim, want: "leads out of"},
		"submodule of a command":       {modules: "url = ext::touch " + mark, want: "not allowed"},
		"submodule of another command": {modules: "url = \"ext::touch" + mark + "\"", want: "not allowed"},
		"submodule of an option":       {modules: "url = -u", want: "neither a URL"},
		"submodule with credentials":   {modules: "url = http://u:p@localhost/x.git", want: "must not give"},
		"submodule that is nowhere":    {modules: "x = y", want: "no url found for submodule path"},
		"subdir that is a link":        {modules: "update = none", subdir: "link", want: "contains non-directory"},
		"subdir below a link":          {modules: "update = none", subdir: "link/ssh", want: "contains non-directory"},
		"subdir above":                 {modules: "update = none", subdir: "../../etc", want: "no such file"},
		"update by command":            {modules: "update = !touch " + mark + "\nurl = /x", want: "neither a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := s.repository(t, strings.ReplaceAll(name, " ", "-"))
			from := write(t, ".gitmodules=[submodule \"sub\"]\npath = sub\n"+tt.modules+"\n", "link -> /etc",
				".gitattributes=* filter=evil\n")
			gitIn(t, dir, "--work-tree="+from, "add", "-A", ".")
			gitIn(t, dir, "update-index", "--add", "--cacheinfo", "160000,"+id+",sub")
			gitIn(t, dir, "commit", "--quiet", "-m", "m")
			got := gitFails(t, source.GitOptions{Remote: s.URL + "/" + filepath.Base(dir) + ".git", Subdir: tt.subdir}, source.Fetch{})
			if !strings.Contains(got, tt.want) {
				t.Error(got)
			}
		})
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Error("a command was run")
	}
}

// TestGitIsFetchedOnce: builds share a directory, whatever state it is in.
func TestGitIsFetchedOnce(t *testing.T) {
	h := newHistory(t)
	dir := t.TempDir()
	o, f := source.GitOptions{Remote: h.url, Ref: h.second}, source.Fetch{Dir: dir}
	var wg sync.WaitGroup
	for range 6 {
		r := remoteGit(t, o, f)
		for range 2 {
			wg.Go(func() {
				if _, err := r.Tree(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if n := h.requests.Load() - h.posts.Load(); n != 1 { // a fetch begins with a GET
		t.Errorf("%d fetches", n)
	}
	// What a killed git leaves.
	repos, err := filepath.Glob(filepath.Join(dir, "git", "*", "HEAD"))
	must(t, err)
	if len(repos) != 1 {
		t.Fatal(repos)
	}
	repo := filepath.Dir(repos[0])
	for _, name := range []string{"shallow.lock", "refs/gobuild/" + h.first + ".lock", "packed-refs.lock", "config.lock"} {
		must(t, os.WriteFile(filepath.Join(repo, name), nil, 0o600))
	}
	gitTree(t, source.GitOptions{Remote: h.url, Ref: h.first}, f)
	// A repository that has the reference, and not what it stands for.
	packs, err := filepath.Glob(filepath.Join(repo, "objects", "*"))
	must(t, err)
	for _, p := range packs {
		must(t, os.RemoveAll(p))
	}
	gitTree(t, o, f)
	must(t, os.WriteFile(filepath.Join(repo, "config"), []byte("[broken"), 0o600))
	gitTree(t, o, f)
}

func TestGitSHA256(t *testing.T) {
	s := newGitServer(t)
	dir := s.repository(t, "r", "--object-format=sha256")
	id := commit(t, dir, "f=1")
	for _, o := range []source.GitOptions{{}, {Ref: id}, {KeepDir: true}} {
		o.Remote = s.URL + "/r.git"
		if got := contents(t, gitTree(t, o, source.Fetch{}), "f"); got != "1" {
			t.Error(got)
		}
	}
}

// TestGitEmptyCommit: a tree without files is a tree.
func TestGitEmptyCommit(t *testing.T) {
	s := newGitServer(t)
	gitIn(t, s.repository(t, "r"), "commit", "--quiet", "--allow-empty", "-m", "empty")
	if got := names(t, gitTree(t, source.GitOptions{Remote: s.URL + "/r.git"}, source.Fetch{})); len(got) != 0 {
		t.Error(got)
	}
}

// TestGitIsCanceled: git and its helpers end with the build.
func TestGitIsCanceled(t *testing.T) {
	h := newHistory(t)
	asked, release := make(chan struct{}, 10), make(chan struct{})
	defer close(release)
	h.before = func(http.ResponseWriter, *http.Request) bool {
		asked <- struct{}{}
		<-release
		return true
	}
	why := errors.New("the user went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(why)
	}()
	r := remoteGit(t, source.GitOptions{Remote: h.url}, source.Fetch{})
	if _, err := r.Tree(ctx); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// TestGitMissing: without the command there is a way out.
func TestGitMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if s := gitFails(t, source.GitOptions{Remote: "https://example.com/x.git"}, source.Fetch{}); !strings.Contains(s, "git command is needed") {
		t.Error(s)
	}
}
