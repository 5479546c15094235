// Package ecr gets credentials for Amazon's registries, private and public ones, from whatever identity Amazon's own tools
// would find: the environment, the shared files, a workload's web identity, a container's or a pod's, the machine's.
//
// Of Amazon's client library it uses the search for identities and the signatures; the one request that is made
// with them does not need the generated client, which weighs more than all the rest.
package ecr

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/gobuild-dev/gobuild/pkg/registry/auth"
)

// Name is the helper's.
const Name = "ecr"

// Options say how Amazon is reached. The zero value is right outside of tests.
type Options struct {
	// Endpoint replaces the URL of the service that gives out credentials.
	Endpoint string
	// Client makes requests to it; nil is http.DefaultClient.
	Client *http.Client
}

// Source is credentials of Amazon's registries.
type Source struct {
	o Options

	mu       sync.Mutex
	identity aws.CredentialsProvider // found once; renews itself
}

var _ auth.Source = (*Source)(nil)

// New returns the source. Nothing is looked for before it is asked.
func New(o Options) *Source {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	return &Source{o: o}
}

// Name implements auth.Source.
func (*Source) Name() string { return Name }

// Serves implements auth.Source.
func (*Source) Serves(host string) bool {
	_, ok := find(host)
	return ok
}

// remedy is what helps those who have no identity.
const remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine or workload a role with the right ecr:GetAuthorizationToken"

// Get implements auth.Source.
func (s *Source) Get(ctx context.Context, host string) (authn.AuthConfig, time.Time, error) {
	fail := func(err error) (authn.AuthConfig, time.Time, error) { return authn.AuthConfig{}, time.Time{}, err }
	at, ok := find(host)
	if !ok {
		return fail(auth.ErrNone)
	}
	if s.o.Endpoint != "" {
		at.endpoint = s.o.Endpoint
	}
	provider, err := s.provider(ctx)
	if err != nil {
		return fail(fmt.Errorf("%w (%s)", err, remedy))
	}
	creds, err := provider.Retrieve(ctx)
	if err != nil {
		return fail(fmt.Errorf("find identity: %w (%s)", err, remedy))
	}
	token, ends, err := s.authorize(ctx, at, creds)
	if err != nil {
		return fail(err)
	}
	cfg, err := decode(token)
	return cfg, ends, err
}

func (s *Source) provider(ctx context.Context) (aws.CredentialsProvider, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity != nil {
		return s.identity, nil
	}
	c, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read configuration of AWS: %w", err)
	}
	s.identity = c.Credentials
	return s.identity, nil
}

// maxAnswer bounds what is read of an answer, which has some kilobytes.
const maxAnswer = 1 << 20

// authorize asks for an authorization token (GetAuthorizationToken of the services ECR and ECR public).
func (s *Source) authorize(ctx context.Context, at service, creds aws.Credentials) (token string, ends time.Time, err error) {
	body := []byte("{}")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.endpoint, bytes.NewReader(body))
	if err != nil {
		return "", time.Time{}, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", at.target+".GetAuthorizationToken")
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(sum[:]), at.signing, at.region, time.Now()); err != nil {
		return "", time.Time{}, fmt.Errorf("sign request: %w", err)
	}
	resp, err := s.o.Client.Do(req)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("get authorization token: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("get authorization token: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", time.Time{}, refused(resp.Status, answer)
	}
	return parse(answer)
}

// datum is an element of an answer. ExpiresAt is in seconds.
type datum struct {
	Token     string  `json:"authorizationToken"`
	ExpiresAt float64 `json:"expiresAt"`
}

// parse reads an answer. ECR gives a list, ECR public one element.
func parse(answer []byte) (token string, ends time.Time, err error) {
	var got struct {
		Data json.RawMessage `json:"authorizationData"`
	}
	var list []datum
	if err = json.Unmarshal(answer, &got); err == nil && json.Unmarshal(got.Data, &list) != nil {
		list = make([]datum, 1)
		err = json.Unmarshal(got.Data, &list[0])
	}
	if err != nil || len(list) == 0 || list[0].Token == "" {
		return "", time.Time{}, errors.New("get authorization token: the answer has none")
	}
	if d := list[0]; d.ExpiresAt > 0 {
		ends = time.UnixMilli(int64(d.ExpiresAt * 1000))
	} else {
		ends = time.Now().Add(time.Hour)
	}
	return list[0].Token, ends, nil
}

// refused is the error of an answer that says why, such as AccessDeniedException.
func refused(status string, answer []byte) error {
	var got struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
		Capital string `json:"Message"`
	}
	_ = json.Unmarshal(answer, &got) // what cannot be read says nothing
	_, kind, ok := strings.Cut(got.Type, "#")
	if !ok {
		kind = got.Type
	}
	if got.Message == "" {
		got.Message = got.Capital
	}
	err := fmt.Errorf("get authorization token: %s: %s %s", status, kind, got.Message)
	if strings.Contains(kind, "AccessDenied") {
		return fmt.Errorf("%w (give the identity the right ecr:GetAuthorizationToken)", err)
	}
	return fmt.Errorf("%w (%s)", err, remedy)
}

// decode takes a token apart, which is the base64 of user:password.
func decode(token string) (authn.AuthConfig, error) {
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return authn.AuthConfig{}, errors.New("get authorization token: it is not base64")
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return authn.AuthConfig{}, errors.New("get authorization token: it is not user:password")
	}
	return authn.AuthConfig{Username: user, Password: password}, nil
}
