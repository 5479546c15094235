// Package google gets credentials for Google's registries, Artifact Registry and Container Registry, from Application Default
// Credentials: the file that GOOGLE_APPLICATION_CREDENTIALS names, which may be a service account's or that of a federated
// workload, where gcloud has logged in, or the identity of the workload or machine.
package google

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/gobuild-dev/gobuild/pkg/registry/auth"
)

// Name is the helper's.
const Name = "google"

// scope is the one that covers both registries, reading and writing.
const scope = "https://www.googleapis.com/auth/cloud-platform"

// Source is credentials of Google's registries. One token is good for all of them.
type Source struct {
	mu     sync.Mutex
	tokens oauth2.TokenSource // found once; renews itself
}

var _ auth.Source = (*Source)(nil)

// New returns the source. Nothing is looked for before it is asked.
func New() *Source { return &Source{} }

// Name implements auth.Source.
func (*Source) Name() string { return Name }

// Serves implements auth.Source.
func (*Source) Serves(host string) bool {
	host = strings.ToLower(host)
	if host == "mirror.gcr.io" { // Google's mirror of Docker Hub is for everybody, and used by many who are not its customers
		return false
	}
	return host == "gcr.io" || strings.HasSuffix(host, ".gcr.io") || strings.HasSuffix(host, "-docker.pkg.dev")
}

const remedy = "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account or a federated workload, or give the machine or workload a service account"

// Get implements auth.Source.
func (s *Source) Get(ctx context.Context, _ string) (authn.AuthConfig, time.Time, error) {
	tokens, err := s.source(ctx)
	if err != nil {
		return authn.AuthConfig{}, time.Time{}, fmt.Errorf("find identity: %w (%s)", err, remedy)
	}
	t, err := tokens.Token()
	if err != nil {
		return authn.AuthConfig{}, time.Time{}, fmt.Errorf("get token: %w (%s)", err, remedy)
	}
	return authn.AuthConfig{Username: "oauth2accesstoken", Password: t.AccessToken}, t.Expiry, nil
}

func (s *Source) source(ctx context.Context) (oauth2.TokenSource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens != nil {
		return s.tokens, nil
	}
	// Tokens are renewed long after this question has been answered.
	creds, err := google.FindDefaultCredentials(context.WithoutCancel(ctx), scope)
	if err != nil {
		return nil, err
	}
	s.tokens = creds.TokenSource
	return s.tokens, nil
}
