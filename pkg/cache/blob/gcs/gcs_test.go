package gcs_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/oauth2"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/blobtest"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/gcs"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

func bucket(t *testing.T, words string) blob.Bucket {
	t.Helper()
	place, err := cache.ParsePlace(words, cache.To)
	if err != nil {
		t.Fatal(err)
	}
	b, err := gcs.Open(t.Context(), gcs.OptionsOf(place))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucket(t *testing.T) {
	p := registrytest.Before(t, blobtest.GCS(t))
	words := "type=gcs,bucket=" + blobtest.Container + ",endpoint_url=http://"
	blobtest.Run(t, p, blobtest.Buckets{
		Open:        func(t *testing.T, prefix string) blob.Bucket { return bucket(t, words+p.Host+",prefix="+prefix) },
		Unreachable: func(t *testing.T, host string) blob.Bucket { return bucket(t, words+host) },
	})
}

// TestPlainHTTPGetsNoCredentials holds that a token is never sent where it can be read on the way.
func TestPlainHTTPGetsNoCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, []byte(`{"type":"authorized_user","client_id":"a","client_secret":"b","refresh_token":"c"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	p := registrytest.Before(t, blobtest.GCS(t))
	blobtest.Usable(t, bucket(t, "type=gcs,bucket="+blobtest.Container+",endpoint_url=http://"+p.Host))
	for _, r := range p.Seen("", "") {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s was sent with credentials", r.Method, r.Path)
		}
	}
}

// TestCredentials holds that requests carry a token of what is found the usual way.
func TestCredentials(t *testing.T) {
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"the token","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(issuer.Close)
	var got atomic.Value
	store := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(store.Close)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", serviceAccount(t, issuer.URL))
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, store.Client())
	b, err := gcs.Open(ctx, gcs.Options{Bucket: "b", Endpoint: store.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "steps/a", 0); !errors.Is(err, cache.ErrUnusable) {
		t.Errorf("Get: %v, want ErrUnusable", err)
	}
	if got.Load() != "Bearer the token" {
		t.Errorf("sent %q", got.Load())
	}
}

// serviceAccount writes a file as Google hands it out.
func serviceAccount(t *testing.T, tokenURL string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "test@example.com", "token_uri": tokenURL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
