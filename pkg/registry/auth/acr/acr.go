// Package acr gets credentials for Azure's registries from whatever identity Azure's own tools would find: a service principal
// in the environment, a workload's federated token, a managed identity, or where az has logged in.
package acr

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/gobuild-dev/gobuild/pkg/registry/auth"
)

// Name is the helper's.
const Name = "acr"

const (
	// audience is that of registries in all clouds.
	audience = "https://containerregistry.azure.net/.default"
	// user is the one that stands for a token in place of a password
	// (https://learn.microsoft.com/azure/container-registry/container-registry-authentication).
	user = "00000000-0000-0000-0000-000000000000"
	// assumed is how long a token holds that does not say so. Azure's hold for three hours.
	assumed = time.Hour
	// maxAnswer bounds what is read of an answer, which has some kilobytes.
	maxAnswer = 1 << 20
)

// Options say how Azure is reached. The zero value is right outside of tests.
type Options struct {
	// Client makes the requests; nil is http.DefaultClient.
	Client *http.Client
	// Authority is the URL of the server that identities are checked by; empty means Azure's, or what the environment says.
	Authority string
	// Identity replaces the search for an identity.
	Identity azcore.TokenCredential
}

// Source is credentials of Azure's registries.
type Source struct {
	o Options

	mu         sync.Mutex
	identities map[string]azcore.TokenCredential // by authority
}

var _ auth.Source = (*Source)(nil)

// New returns the source. Nothing is looked for before it is asked.
func New(o Options) *Source {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	return &Source{o: o, identities: map[string]azcore.TokenCredential{}}
}

// Name implements auth.Source.
func (*Source) Name() string { return Name }

// Serves implements auth.Source.
func (*Source) Serves(host string) bool {
	_, ok := cloudOf(host)
	return ok
}

// cloudOf finds the cloud that a registry is in. What stands before the domain is the registry's name and, if it is so set, a
// region or a hash, all chosen among letters, digits, hyphens and dots.
func cloudOf(host string) (cloud.Configuration, bool) {
	host = strings.ToLower(host)
	for domain, c := range map[string]cloud.Configuration{
		".azurecr.io": cloud.AzurePublic, ".azurecr.cn": cloud.AzureChina, ".azurecr.us": cloud.AzureGovernment,
	} {
		if name, ok := strings.CutSuffix(host, domain); ok && name != "" && !strings.ContainsAny(name, "/:@") {
			return c, true
		}
	}
	return cloud.Configuration{}, false
}

const remedy = "set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, or give the machine or workload an identity with the role AcrPush or AcrPull"

// Get implements auth.Source.
func (s *Source) Get(ctx context.Context, host string) (authn.AuthConfig, time.Time, error) {
	fail := func(err error) (authn.AuthConfig, time.Time, error) { return authn.AuthConfig{}, time.Time{}, err }
	c, ok := cloudOf(host)
	if !ok {
		return fail(auth.ErrNone)
	}
	identity, err := s.identity(c)
	if err != nil {
		return fail(fmt.Errorf("find identity: %w (%s)", err, remedy))
	}
	token, err := identity.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{audience}})
	if err != nil {
		return fail(fmt.Errorf("find identity: %w (%s)", summary(err), remedy))
	}
	refresh, err := s.exchange(ctx, host, token.Token)
	if err != nil {
		return fail(err)
	}
	return authn.AuthConfig{Username: user, Password: refresh}, expiry(refresh), nil
}

func (s *Source) identity(c cloud.Configuration) (azcore.TokenCredential, error) {
	if s.o.Identity != nil {
		return s.o.Identity, nil
	}
	if s.o.Authority != "" {
		c.ActiveDirectoryAuthorityHost = s.o.Authority
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.identities[c.ActiveDirectoryAuthorityHost]; known != nil {
		return known, nil
	}
	o := &azidentity.DefaultAzureCredentialOptions{
		ClientOptions:            policy.ClientOptions{Cloud: c, Transport: s.o.Client},
		DisableInstanceDiscovery: s.o.Authority != "",
	}
	identity, err := azidentity.NewDefaultAzureCredential(o)
	if err != nil {
		return nil, err
	}
	s.identities[c.ActiveDirectoryAuthorityHost] = identity
	return identity, nil
}

// exchange turns a token of Azure's directory into one of the registry
// (https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md). It ends at the registry alone: redirects are not followed.
func (s *Source) exchange(ctx context.Context, host, token string) (string, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := *s.o.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("exchange token: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("exchange token: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("exchange token: %s%s (%s)", resp.Status, reason(body), remedy)
	}
	var got struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &got); err != nil || got.RefreshToken == "" {
		return "", errors.New("exchange token: the answer has none")
	}
	return got.RefreshToken, nil
}

// reason is what a registry says when it refuses.
func reason(body []byte) string {
	var got struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &got) != nil || len(got.Errors) == 0 {
		return ""
	}
	return ": " + got.Errors[0].Code + ": " + got.Errors[0].Message
}

// summary makes one line of the list of everything that was tried.
func summary(err error) error { return &oneLine{err} }

type oneLine struct{ err error }

func (e *oneLine) Unwrap() error { return e.err }
func (e *oneLine) Error() string {
	words := strings.Fields(e.err.Error())
	words = slices.DeleteFunc(words, func(w string) bool { return strings.Trim(w, "-") == "" }) // rulers
	return strings.Join(words, " ")
}

// expiry reads when a token ends, which stands in the second part of a JSON web token (RFC 7519).
func expiry(token string) time.Time {
	unknown := time.Now().Add(assumed)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return unknown
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return unknown
	}
	var claims struct {
		Exp int64 `json:"exp"`
	}
	if json.Unmarshal(b, &claims) != nil || claims.Exp == 0 {
		return unknown
	}
	return time.Unix(claims.Exp, 0)
}
