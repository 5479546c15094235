package source_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/source"
)

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
			refused := h.before
			h.before = func(w http.ResponseWriter, r *http.Request) bool {
				rec := httptest.NewRecorder() // what git asks for a password it does not show
				if !refused(rec, r) {
					return false
				}
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write(rec.Body.Bytes())
				return true
			}
			if s := gitFails(t, source.GitOptions{Remote: tt.url}, f); strings.Contains(s, "hush") || strings.Contains(s, header[6:]) {
				t.Errorf("a secret in %s", s)
			}
		})
	}
}
