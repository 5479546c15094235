package registrytest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// Tokens is a token server (distribution-spec, docker's "token authentication") that a proxy puts
// before its registry.
type Tokens struct {
	// User and Password are what a token costs.
	User, Password string
	// Uses is how many requests a token is good for; 0 for any number.
	Uses int
	// Deny, when not nil, says which scopes are not granted.
	Deny func(scope string) bool

	mu     sync.Mutex
	issued map[string]*grant
	n      int
}

type grant struct {
	scopes []string
	uses   int
}

// Issued returns how many tokens were handed out.
func (t *Tokens) Issued() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// RequireTokens makes the proxy ask for tokens of t.
func (p *Proxy) RequireTokens(t *Tokens) {
	t.issued = map[string]*grant{}
	p.Inject(func(r *http.Request, next http.Handler) http.Handler {
		if r.URL.Path == "/token" {
			return http.HandlerFunc(t.issue)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			scope := scopeOf(r)
			if !t.allows(r.Header.Get("Authorization"), scope) {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope=%q`, r.Host, scope))
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
				return
			}
			// Like real ones: no right to the source, no mount, and an upload instead.
			if q := r.URL.Query(); q.Get("from") != "" && !t.covers(r.Header.Get("Authorization"), "repository:"+q.Get("from")+":pull") {
				r.URL.RawQuery = ""
			}
			r.Header.Del("Authorization")
			next.ServeHTTP(w, r)
		})
	})
}

func (t *Tokens) issue(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != t.User || password != t.Password {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"bad credentials"}]}`, http.StatusUnauthorized)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	token := fmt.Sprintf("token-%d", t.n)
	g := &grant{uses: t.Uses}
	for _, s := range r.URL.Query()["scope"] {
		if t.Deny == nil || !t.Deny(s) {
			g.scopes = append(g.scopes, s)
		}
	}
	t.issued[token] = g
	fmt.Fprintf(w, `{"token":%q,"expires_in":60}`, token)
}

// scopeOf is what a request needs.
func scopeOf(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	for _, kind := range []string{"/blobs/", "/manifests/", "/tags/"} {
		if i := strings.Index(path, kind); i >= 0 {
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				return "repository:" + path[:i] + ":pull"
			}
			return "repository:" + path[:i] + ":push,pull"
		}
	}
	return ""
}

func (t *Tokens) allows(header, scope string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.issued[strings.TrimPrefix(header, "Bearer ")]
	if g == nil || t.Uses > 0 && g.uses == 0 {
		return false
	}
	g.uses--
	return scope == "" || g.covers(scope)
}

func (t *Tokens) covers(header, scope string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.issued[strings.TrimPrefix(header, "Bearer ")]
	return g != nil && g.covers(scope)
}

func (g *grant) covers(scope string) bool {
	for _, s := range g.scopes {
		if s == scope || strings.TrimSuffix(s, ":push,pull") == strings.TrimSuffix(scope, ":pull") {
			return true
		}
	}
	return false
}
