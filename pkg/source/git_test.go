package source_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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

// gitFails returns the error that opening or fetching gives.
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

// TestGitIsFetchedOnce: builds share a directory, whatever state it is in.
func TestGitIsFetchedOnce(t *testing.T) {
	h := newHistory(t)
	dir := t.TempDir()
	t.Chdir(dir)
	o, f := source.GitOptions{Remote: h.url, Ref: h.second}, source.Fetch{Dir: "."}
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
