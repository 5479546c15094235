package source_test

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/source"
)

func TestHTTPErrors(t *testing.T) {
	body := "hello"
	status := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret", n) }
	}
	zeros := strings.Repeat("0", 64)
	for _, tt := range []struct {
		name, checksum string
		h              http.HandlerFunc
		want           string
	}{
		{"not found", "", status(404), "answers 404 Not Found"},
		{"forbidden", "", status(403), "the secret HTTP_AUTH_TOKEN_127.0.0.1"},
		{"out of order", "", status(503), "answers 503 Service Unavailable"},
		{"not modified since nothing", "", status(304), "answers 304"},
		{"checksum", "sha256:" + zeros, file(&body), "digest mismatch for http"},
		{"longer checksum", "sha512:" + zeros + zeros, file(&body), "digest mismatch for http"},
		{"truncated", "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "short")
		}, "after 5 bytes: unexpected EOF"},
		{"truncated chunks", "", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "short")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "after 5 bytes: unexpected EOF"},
		{"truncated gzip", "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, "short")
			_ = z.Flush()
		}, "unexpected EOF"},
		{"around in circles", "", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, "stopped after 20 redirects"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := serve(t, tt.h)
			address := strings.Replace(s.URL, "http://", "http://user:pass@", 1) + "/x?token=abc"
			r := remoteHTTP(t, source.HTTPOptions{URL: address, Checksum: tt.checksum}, source.Fetch{Dir: dir})
			_, err := r.Tree(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "pass") || strings.Contains(err.Error(), "abc") {
				t.Errorf("the URL in %v", err)
			}
			if _, again := r.Key(t.Context()); again == nil || again.Error() != err.Error() {
				t.Errorf("second error: %v", again)
			}
			if left, err := os.ReadDir(dir + "/http"); len(left) > 0 && !strings.Contains(tt.name, "checksum") {
				t.Errorf("kept: %v, %v", left, err)
			}
		})
	}
}

func TestHTTPOptionErrors(t *testing.T) {
	for _, o := range []source.HTTPOptions{
		{URL: ""}, {URL: "file:///etc/passwd"}, {URL: "http://"}, {URL: "http://a:b@c d/"}, {URL: "ftp://x/y"},
		{URL: "http://x/y", Checksum: "abc"}, {URL: "http://x/y", Checksum: "md5:900150983cd24fb0d6963f7d28e17f72"},
	} {
		if _, err := source.NewHTTP(o, source.Fetch{}); err == nil || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestHTTPStalls: neither an answer that does not come nor a body that does not go on holds a build up.
func TestHTTPStalls(t *testing.T) {
	release := make(chan struct{})
	for name, before := range map[string]func(http.ResponseWriter){
		"before the answer": func(http.ResponseWriter) {},
		"in the body": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
		},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			before(w)
			<-release
		})
		r := remoteHTTP(t, source.HTTPOptions{URL: s.URL}, source.Fetch{Stall: 100 * time.Millisecond})
		if _, err := r.Tree(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer and no byte for 100ms") {
			t.Errorf("%s: %v", name, err)
		}
		// A context that ends decides nothing for those who have another.
		r = remoteHTTP(t, source.HTTPOptions{URL: s.URL}, source.Fetch{Stall: 200 * time.Millisecond})
		why := errors.New("the user went home")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if _, err := r.Tree(ctx); !errors.Is(err, why) {
			t.Errorf("%s, canceled: %v", name, err)
		}
		if _, err := r.Tree(t.Context()); err == nil || errors.Is(err, why) {
			t.Errorf("%s, after another was canceled: %v", name, err)
		}
	}
	close(release)
}

// TestHTTPCredentials go to the host that they are for, and to no other.
func TestHTTPCredentials(t *testing.T) {
	body := "hello"
	other := serve(t, file(&body))
	var elsewhere atomic.Pointer[string]
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, *elsewhere.Load(), http.StatusFound)
		case "/near":
			http.Redirect(w, r, "/x", http.StatusFound)
		default:
			file(&body)(w, r)
		}
	})
	elsewhere.Store(&other.URL)
	get := func(address string, f source.Fetch) {
		t.Helper()
		_, err := remoteHTTP(t, source.HTTPOptions{URL: address}, f).Tree(t.Context())
		must(t, err)
	}
	sent := func(s *script) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.asked[len(s.asked)-1].Header.Get("Authorization")
	}
	host := source.Fetch{Secrets: secrets(map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "t"})}
	get(s.URL+"/near", host)
	if sent(s) != "Bearer t" {
		t.Errorf("after a redirect to the same host: %q", sent(s))
	}
	get(s.URL+"/away", host)
	if got := sent(other); got != "" {
		t.Errorf("another host got %q", got)
	}
	get(s.URL, source.Fetch{Secrets: secrets(map[string]string{"HTTP_AUTH_HEADER_127.0.0.1": "Basic x"})})
	if sent(s) != "Basic x" {
		t.Errorf("whole header: %q", sent(s))
	}
	get(s.URL, source.Fetch{Secrets: secrets(map[string]string{"HTTP_AUTH_HEADER_localhost": "Basic x"})})
	if sent(s) != "" {
		t.Errorf("header for another host: %q", sent(s))
	}
	get(strings.Replace(s.URL, "//", "//u:p@", 1), source.Fetch{})
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("u:p")); sent(s) != want {
		t.Errorf("credentials of the URL: %q", sent(s))
	}
	r := remoteHTTP(t, source.HTTPOptions{URL: s.URL}, source.Fetch{Secrets: secrets(map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "t\r\nX: hush"})})
	if _, err := r.Key(t.Context()); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("a header with a line break: %v", err)
	}
}

func TestHTTPProxy(t *testing.T) {
	body := "through"
	proxy := serve(t, file(&body))
	u, err := url.Parse(proxy.URL)
	must(t, err)
	r := remoteHTTP(t, source.HTTPOptions{URL: "http://no.such.host.invalid/x"}, source.Fetch{Proxy: http.ProxyURL(u)})
	tree, err := r.Tree(t.Context())
	must(t, err)
	if contents(t, tree, "x") != body {
		t.Error("not through the proxy")
	}
}
