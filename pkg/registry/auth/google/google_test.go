package google_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"golang.org/x/crypto/bcrypt"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth/google"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

const (
	host  = "europe-west1-docker.pkg.dev"
	token = "ya29.token"
)

// serviceAccount lays the file of a service account whose tokens come from a server that checks the assertion's signature
// (RFC 7523).
func serviceAccount(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const email = "ci@project.iam.gserviceaccount.com"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims := jwt.MapClaims{}
		_, err := jwt.ParseWithClaims(r.FormValue("assertion"), claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil })
		if err != nil || claims["iss"] != email || r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"expires_in":3600,"token_type":"Bearer"}`, token)
	}))
	t.Cleanup(s.Close)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": email, "token_uri": s.URL + "/token", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
}

func TestServes(t *testing.T) {
	s := google.New()
	for _, h := range []string{host, "us-docker.pkg.dev", "gcr.io", "eu.gcr.io", "marketplace.gcr.io"} {
		if !s.Serves(h) {
			t.Errorf("%s is Google's", h)
		}
	}
	for _, h := range []string{"xgcr.io", "gcr.io.evil.example", "mirror.gcr.io", "docker.pkg.dev.evil.example", "us-maven.pkg.dev", "gcr.io:443", ""} {
		if s.Serves(h) {
			t.Errorf("%s gets no credentials", h)
		}
	}
}

// TestPushAsServiceAccount pushes to a registry of that name, which wants the token.
func TestPushAsServiceAccount(t *testing.T) {
	serviceAccount(t)
	hash, err := bcrypt.GenerateFromPassword([]byte(token), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	r := registrytest.Start(t, registrytest.Config{TLS: true, Names: []string{host}, Htpasswd: "oauth2accesstoken:" + string(hash) + "\n"})
	c, err := registry.New(registry.Options{
		Keychain: auth.New(auth.Options{}, google.New()), Proxy: registrytest.Tunnel(t, r.Host),
		Certificates: map[string]string{host: r.CA}, Retries: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PushImage(t.Context(), host+"/project/x:1", img); err != nil {
		t.Error(err)
	}
}

// TestMachine gets the token of the machine from the server with its metadata.
func TestMachine(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		switch {
		case r.Header.Get("Metadata-Flavor") != "Google":
			http.Error(w, "no", http.StatusForbidden)
		case strings.HasSuffix(r.URL.Path, "/service-accounts/default/token"):
			fmt.Fprintf(w, `{"access_token":%q,"expires_in":1800,"token_type":"Bearer"}`, token)
		default:
			fmt.Fprint(w, "project")
		}
	}))
	defer s.Close()
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))
	cfg, ends, err := google.New().Get(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Username != "oauth2accesstoken" || cfg.Password != token || !ends.After(time.Now()) {
		t.Errorf("got %+v until %s", cfg, ends)
	}
}

func TestErrorsHelp(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "missing.json"))
	if _, _, err := google.New().Get(t.Context(), host); err == nil || !strings.Contains(err.Error(), "missing.json") || !strings.Contains(err.Error(), "set GOOGLE_APPLICATION_CREDENTIALS") {
		t.Errorf("got %v", err)
	}
}
