package acr_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/registry/auth/acr"
)

const (
	host      = "team.azurecr.io"
	authority = "https://login.example.com/"
	tenant    = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	access    = "directory-token"
)

// azure is the directory that gives out identities, and the registry that takes them.
type azure struct {
	*httptest.Server
	t *testing.T
	// secret and assertion are what an identity costs.
	secret, assertion string
	refuses           bool
}

// newAzure starts it, and returns the options that lead there.
func newAzure(t *testing.T) (*azure, acr.Options) {
	a := &azure{t: t, secret: "right-secret", assertion: "the-pod"}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	for _, name := range []string{"AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_USERNAME"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	t.Setenv("AZURE_TENANT_ID", tenant)
	t.Setenv("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555")
	client := a.Client()
	tr := client.Transport.(*http.Transport).Clone()
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, a.Listener.Addr().String())
	}
	tr.TLSClientConfig.ServerName = "example.com" // which the certificate is for
	return a, acr.Options{Client: &http.Client{Transport: tr}, Authority: authority}
}

func (a *azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Host == "login.example.com" && strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		fmt.Fprintf(w, `{"token_endpoint":%q,"authorization_endpoint":%q,"issuer":%q}`, authority+tenant+"/token", authority+tenant+"/authorize", authority+tenant+"/v2.0")
	case r.Host == "login.example.com" && strings.HasSuffix(r.URL.Path, "/token"):
		if !strings.Contains(r.FormValue("scope"), "https://containerregistry.azure.net/.default") ||
			r.FormValue("client_secret") != a.secret && r.FormValue("client_assertion") != a.assertion {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}`)
			return
		}
		fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3600,"access_token":%q}`, access)
	case r.Host == host && r.URL.Path == "/oauth2/exchange" && r.Method == http.MethodPost:
		if a.refuses || r.FormValue("grant_type") != "access_token" || r.FormValue("service") != host || r.FormValue("access_token") != access {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		fmt.Fprintf(w, `{"refresh_token":%q}`, refresh())
	default:
		a.t.Errorf("unexpected request for %s%s", r.Host, r.URL.Path)
		http.NotFound(w, r)
	}
}

// ends is when the registry's token does.
func ends() time.Time { return time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC) }

func refresh() string {
	return "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, ends().Unix())) + ".c2lnbmF0dXJl"
}

func TestServes(t *testing.T) {
	s := acr.New(acr.Options{})
	for _, h := range []string{host, "team-hash.westeurope.data.azurecr.io", "team.azurecr.cn", "team.azurecr.us", "Team.AzureCR.io"} {
		if !s.Serves(h) {
			t.Errorf("%s is Azure's", h)
		}
	}
	// Trap 82: a token that goes to a host that only looks alike is lost.
	for _, h := range []string{"azurecr.io", ".azurecr.io", "teamazurecr.io", "team.azurecr.io.evil.example", "team.azurecr.io:8443", "evil.example/team.azurecr.io", "u@x.azurecr.io"} {
		if s.Serves(h) {
			t.Errorf("%s gets no credentials", h)
		}
	}
}

func TestIdentities(t *testing.T) {
	for name, lay := range map[string]func(*testing.T, *azure){
		"service principal": func(t *testing.T, a *azure) { t.Setenv("AZURE_CLIENT_SECRET", a.secret) },
		"workload": func(t *testing.T, a *azure) {
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(a.assertion), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, o := newAzure(t)
			lay(t, a)
			cfg, until, err := acr.New(o).Get(t.Context(), host)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Username != "00000000-0000-0000-0000-000000000000" || cfg.Password != refresh() || !until.Equal(ends()) {
				t.Errorf("got %+v until %s", cfg, until)
			}
		})
	}
}

// TestErrorsHelp holds that errors say what would help, in one line and without any secret.
func TestErrorsHelp(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		lay        func(*testing.T, *azure)
	}{
		{"wrong secret", "Invalid client secret", func(t *testing.T, _ *azure) { t.Setenv("AZURE_CLIENT_SECRET", "wrong-secret") }},
		{"no role", "exchange token: 401 Unauthorized: UNAUTHORIZED: authentication required", func(t *testing.T, a *azure) {
			t.Setenv("AZURE_CLIENT_SECRET", a.secret)
			a.refuses = true
		}},
	} {
		a, o := newAzure(t)
		tc.lay(t, a)
		_, _, err := acr.New(o).Get(t.Context(), host)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "AcrPush") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", tc.name, err)
		}
		for _, secret := range []string{"wrong-secret", a.secret, access} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error tells a secret: %v", tc.name, err)
			}
		}
	}
}
