package source_test

import (
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

const lastModified = "Wed, 02 Jan 2019 03:04:05 GMT"

// remoteHTTP opens a remote that the test closes.
func remoteHTTP(t *testing.T, o source.HTTPOptions, f source.Fetch) source.Remote {
	t.Helper()
	f.TempDir = t.TempDir()
	r, err := source.NewHTTP(o, f)
	must(t, err)
	t.Cleanup(func() {
		must(t, r.Close())
		if left, err := os.ReadDir(f.TempDir); err != nil || len(left) > 0 {
			t.Errorf("left in the temporary directory: %v, %v", left, err)
		}
	})
	return r
}

// contents reads a file of a tree.
func contents(t *testing.T, tree rootfs.Tree, name string) string {
	t.Helper()
	f, err := tree.Open(name)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return string(b)
}

// secrets are those of a map.
func secrets(m map[string]string) source.Secrets {
	return func(_ context.Context, name string) ([]byte, bool, error) {
		v, ok := m[name]
		return []byte(v), ok, nil
	}
}

// script is a server that counts its answers.
type script struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int
	asked   []*http.Request
}

func serve(t *testing.T, h http.HandlerFunc) *script {
	s := &script{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		h(rec, r)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answers = append(s.answers, rec.status)
		s.asked = append(s.asked, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *script) statuses() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.answers)
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// file answers conditional requests as net/http does.
func file(body *string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var modified time.Time
		for i := 0; i < len(header); i += 2 {
			if header[i] == "Last-Modified" {
				modified, _ = http.ParseTime(header[i+1])
			}
			w.Header().Set(header[i], header[i+1])
		}
		http.ServeContent(w, r, "", modified, strings.NewReader(*body))
	}
}

func TestHTTPFile(t *testing.T) {
	body := "hello"
	plain := file(&body, "Last-Modified", lastModified)
	for _, tt := range []struct {
		name, path, asked string
		h                 http.HandlerFunc
		want              string
		modified          int64
	}{
		{"named by the path", "/d/x.txt?y=z", "", plain, "x.txt", 1546398245},
		{"named by the caller", "/d/x.txt", "y", plain, "y", 1546398245},
		{"named by the caller, with directories", "/d/x.txt", "../../y", plain, "y", 1546398245},
		{"named by nobody", "/", "", plain, "download", 1546398245},
		{"named by the server", "/x", "", file(&body, "Content-Disposition", `attachment; filename="../s p.tar"`), "s p.tar", 0},
		{"named by the server, badly", "/x", "", file(&body, "Content-Disposition", `attachment; filename=".."`), "download", 0},
		{"named by the server, as a directory", "/x", "", file(&body, "Content-Disposition", `attachment; filename="y/"`), "x", 0},
		{"without a time", "/x", "", file(&body), "x", 0},
		{"with a time that is none", "/x", "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Last-Modified", "yesterday")
			_, _ = io.WriteString(w, body)
		}, "x", 0},
		{"escaped slash", "/a%2fb", "", plain, "b", 1546398245},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, tt.h)
			r := remoteHTTP(t, source.HTTPOptions{URL: s.URL + tt.path, Name: tt.asked}, source.Fetch{})
			tree, err := r.Tree(t.Context())
			must(t, err)
			if got := names(t, tree); len(got) != 1 || got[0] != tt.want {
				t.Fatalf("names: %q", got)
			}
			if got := contents(t, tree, tt.want); got != body {
				t.Errorf("contents: %q", got)
			}
			fi, err := tree.Lstat(tt.want)
			must(t, err)
			h := rootfs.EntryOf(fi).Header
			if h.Mode != 0o600 || h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != tt.modified || h.Size != 5 {
				t.Errorf("%+v", h)
			}
			when, err := r.Time(t.Context())
			must(t, err)
			if when.IsZero() != (tt.modified == 0) {
				t.Errorf("Time: %v", when)
			}
			if _, err := r.Key(t.Context()); err != nil || s.statuses() != "[200]" {
				t.Errorf("%v, answers %v", err, s.statuses())
			}
		})
	}
}

// TestHTTPKey: what changes the tree changes the key, and a pinned file is not asked for.
func TestHTTPKey(t *testing.T) {
	body := "hello"
	s := serve(t, file(&body, "Last-Modified", lastModified))
	key := func(o source.HTTPOptions) string {
		t.Helper()
		o.URL = s.URL + "/" + o.URL
		k, err := remoteHTTP(t, o, source.Fetch{}).Key(t.Context())
		must(t, err)
		return k
	}
	first := key(source.HTTPOptions{URL: "x"})
	if key(source.HTTPOptions{URL: "d/x"}) != first || key(source.HTTPOptions{URL: "d/y", Name: "x"}) != first {
		t.Error("the same file has several keys")
	}
	if key(source.HTTPOptions{URL: "y"}) == first {
		t.Error("another name has the same key")
	}
	body = "hallo"
	if key(source.HTTPOptions{URL: "x"}) == first {
		t.Error("other contents have the same key")
	}
	asked := s.statuses()
	sum := "sha256:" + strings.Repeat("0", 64)
	key(source.HTTPOptions{URL: "x", Name: "x", Checksum: sum})
	if s.statuses() != asked {
		t.Error("the key of a pinned file took a request")
	}
}

// TestHTTPRevalidates holds trap 58.
func TestHTTPRevalidates(t *testing.T) {
	etag := `"1"`
	for _, tt := range []struct {
		name string
		h    func(body *string) http.HandlerFunc
		want string // answers to three requests, with a change before the third
	}{
		{"by ETag", func(b *string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { file(b, "ETag", `"`+*b+`"`)(w, r) }
		}, "[200 304 200]"},
		{"by weak ETag", func(b *string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { file(b, "ETag", `W/"`+*b+`"`)(w, r) }
		}, "[200 304 200]"},
		{"by Last-Modified", func(b *string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				when := lastModified
				if *b == "changed" {
					when = "Wed, 02 Jan 2019 03:04:06 GMT"
				}
				file(b, "Last-Modified", when)(w, r)
			}
		}, "[200 304 200]"},
		{"not at all", func(b *string) http.HandlerFunc { return file(b) }, "[200 200 200]"},
		{"by a server that forgets its conditions", func(b *string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("If-None-Match")
				file(b, "ETag", `"`+*b+`"`)(w, r)
			}
		}, "[200 200 200]"},
		{"by a server that forgets its conditions and has weak ETags", func(b *string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("If-None-Match")
				file(b, "ETag", `W/"1"`)(w, r)
			}
		}, "[200 200 200]"},
		{"304 without an ETag", func(b *string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-None-Match") == etag && *b != "changed" {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				file(b, "ETag", etag)(w, r)
			}
		}, "[200 304 304]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, dir := "before", t.TempDir()
			s := serve(t, tt.h(&body))
			for i := range 3 {
				if i == 2 && tt.want != "[200 304 304]" {
					body = "changed"
				}
				r := remoteHTTP(t, source.HTTPOptions{URL: s.URL + "/x"}, source.Fetch{Dir: dir})
				tree, err := r.Tree(t.Context())
				must(t, err)
				if got := contents(t, tree, "x"); got != body {
					t.Errorf("request %d: %q", i, got)
				}
			}
			if got := s.statuses(); got != tt.want {
				t.Errorf("answers %v", got)
			}
			if left, err := os.ReadDir(dir + "/http"); err != nil || len(left) > 2 {
				t.Errorf("kept: %v, %v", left, err)
			}
		})
	}
}

// TestHTTPPinnedIsNotAskedFor: the file of a checksum is known once it is there.
func TestHTTPPinnedIsNotAskedFor(t *testing.T) {
	body, dir := "hello", t.TempDir()
	s := serve(t, file(&body, "ETag", `"1"`))
	for range 2 {
		r := remoteHTTP(t, source.HTTPOptions{
			URL: s.URL + "/x", Checksum: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
		}, source.Fetch{Dir: dir})
		tree, err := r.Tree(t.Context())
		must(t, err)
		if contents(t, tree, "x") != body {
			t.Error("other contents")
		}
	}
	if s.statuses() != "[200]" {
		t.Errorf("answers %v", s.statuses())
	}
}

// TestHTTPCacheInTrouble: what is kept is broken or gone.
func TestHTTPCacheInTrouble(t *testing.T) {
	for name, harm := range map[string]func(name string) error{
		"shortened": func(name string) error { return os.Truncate(name, 3) },
		"gone":      os.Remove,
	} {
		body, dir := "hello", t.TempDir()
		s := serve(t, file(&body, "ETag", `"1"`))
		for range 2 {
			r := remoteHTTP(t, source.HTTPOptions{URL: s.URL + "/x"}, source.Fetch{Dir: dir})
			tree, err := r.Tree(t.Context())
			must(t, err)
			if contents(t, tree, "x") != body {
				t.Errorf("%s: other contents", name)
			}
			left, err := os.ReadDir(dir + "/http")
			must(t, err)
			for _, f := range left {
				must(t, harm(dir+"/http/"+f.Name()))
			}
		}
		if s.statuses() != "[200 200]" {
			t.Errorf("%s: answers %v", name, s.statuses())
		}
	}
}

// TestHTTPChecksums are compared by their own algorithm.
func TestHTTPChecksums(t *testing.T) {
	body := "hello"
	s := serve(t, file(&body))
	r := remoteHTTP(t, source.HTTPOptions{URL: s.URL + "/x", Checksum: fmt.Sprintf("sha512:%x", sha512.Sum512([]byte(body)))}, source.Fetch{})
	_, err := r.Tree(t.Context())
	must(t, err)
}

// TestHTTPTogether: many ask one remote, and many builds share one directory.
func TestHTTPTogether(t *testing.T) {
	var turn atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body := strings.Repeat(fmt.Sprint(turn.Add(1)%3), 100_000)
		file(&body, "ETag", `"`+body[:1]+`"`)(w, r)
	})
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		r := remoteHTTP(t, source.HTTPOptions{URL: s.URL + "/x"}, source.Fetch{Dir: dir})
		for range 3 {
			wg.Go(func() {
				tree, err := r.Tree(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				got := contents(t, tree, "x")
				if got != strings.Repeat(got[:1], 100_000) {
					t.Error("a file of two halves")
				}
			})
		}
	}
	wg.Wait()
	if n := len(s.statuses()); n != len("[200 200 200 200 200 200 200 200]") {
		t.Errorf("answers %v", s.statuses())
	}
}
