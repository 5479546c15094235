package ecr_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth/ecr"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

const host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

// amazon is the services that a source asks: ECR, ECR public, STS, and the metadata of a machine.
type amazon struct {
	*httptest.Server
	t *testing.T
	// key is the access key that signatures have to be made with.
	key aws.Credentials

	mu    sync.Mutex
	calls []string
}

func newAmazon(t *testing.T) *amazon {
	a := &amazon{t: t, key: aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	// Nothing of the machine's own may be found.
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return a
}

func (a *amazon) inEnvironment() {
	a.t.Setenv("AWS_ACCESS_KEY_ID", a.key.AccessKeyID)
	a.t.Setenv("AWS_SECRET_ACCESS_KEY", a.key.SecretAccessKey)
}

func (a *amazon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch target, path := r.Header.Get("X-Amz-Target"), r.URL.Path; {
	case target == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" && a.signed(w, r, "eu-west-1", "ecr", body):
		a.calls = append(a.calls, "ecr")
		fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d.25,"proxyEndpoint":"https://%s"}]}`,
			token("alice:secret"), time.Now().Add(12*time.Hour).Unix(), host)
	case target == "SpencerFrontendService.GetAuthorizationToken" && a.signed(w, r, "us-east-1", "ecr-public", body):
		a.calls = append(a.calls, "public")
		fmt.Fprintf(w, `{"authorizationData":{"authorizationToken":%q,"expiresAt":%d}}`, token("AWS:public"), time.Now().Add(time.Hour).Unix())
	case target != "":
	case strings.Contains(string(body), "Action=AssumeRoleWithWebIdentity") && strings.Contains(string(body), "WebIdentityToken=the-pod"):
		a.calls = append(a.calls, "sts")
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
			`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>session</SessionToken><Expiration>%s</Expiration>`+
			`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			a.key.AccessKeyID, a.key.SecretAccessKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	case r.Method == http.MethodPut && path == "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		fmt.Fprint(w, "metadata-token")
	case strings.HasSuffix(path, "/iam/security-credentials/"):
		fmt.Fprint(w, "a-role")
	case strings.HasSuffix(path, "/iam/security-credentials/a-role"):
		a.calls = append(a.calls, "machine")
		fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":%q,"Token":"session","Expiration":%q}`,
			a.key.AccessKeyID, a.key.SecretAccessKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	default:
		http.NotFound(w, r)
	}
}

// signed makes the signature that the request should have (Signature Version 4) and refuses any other.
func (a *amazon) signed(w http.ResponseWriter, r *http.Request, region, service string, body []byte) bool {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		a.t.Errorf("no date: %v", err)
	}
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(strings.NewReader(string(body)))
	again.URL.Scheme, again.URL.Host = "http", r.Host
	given := again.Header.Get("Authorization")
	for _, name := range []string{"Authorization", "User-Agent", "Accept-Encoding"} {
		again.Header.Del(name)
	}
	key := a.key
	key.SessionToken = again.Header.Get("X-Amz-Security-Token")
	const sumOfBraces = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	if err := v4.NewSigner().SignHTTP(r.Context(), key, again, sumOfBraces, service, region, at); err != nil {
		a.t.Error(err)
	}
	if given == "" || given != again.Header.Get("Authorization") {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type":"com.amazon#InvalidSignatureException","message":"The request signature we calculated does not match"}`)
		return false
	}
	return true
}

func (a *amazon) called() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.calls, " ")
}

func token(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }

func TestServes(t *testing.T) {
	s := ecr.New(ecr.Options{})
	for _, h := range []string{
		host, "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
		"123456789012.dkr-ecr.us-east-1.on.aws", "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "public.ecr.aws",
	} {
		if !s.Serves(h) {
			t.Errorf("%s is Amazon's", h)
		}
	}
	for _, h := range []string{
		host + ".evil.example", "evil." + host, "x" + host, "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil", host + ":443",
		"123456789012.dkr.ecr.eu-west-1/amazonaws.com", "12345.dkr.ecr.eu-west-1.amazonaws.com", "123456789012.dkr.ecr.evil.example#.amazonaws.com",
		"xpublic.ecr.aws", "ghcr.io", "",
	} {
		if s.Serves(h) {
			t.Errorf("%s is not Amazon's", h)
		}
	}
}

// TestIdentities gets credentials with each kind of identity that jobs have.
func TestIdentities(t *testing.T) {
	for _, tc := range []struct {
		name, host, calls, user, password string
		lay                               func(*testing.T, *amazon)
	}{
		{"environment", host, "ecr", "alice", "secret", func(_ *testing.T, a *amazon) { a.inEnvironment() }},
		{"public", "public.ecr.aws", "public", "AWS", "public", func(_ *testing.T, a *amazon) { a.inEnvironment() }},
		{"profile", host, "ecr", "alice", "secret", func(t *testing.T, a *amazon) {
			t.Setenv("AWS_PROFILE", "ci")
			write(t, os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), "[ci]\naws_access_key_id="+a.key.AccessKeyID+"\naws_secret_access_key="+a.key.SecretAccessKey+"\n")
		}},
		{"web identity", host, "sts ecr", "alice", "secret", func(t *testing.T, a *amazon) {
			file := filepath.Join(t.TempDir(), "token")
			write(t, file, "the-pod")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ci")
			t.Setenv("AWS_REGION", "eu-west-1")
			t.Setenv("AWS_ENDPOINT_URL_STS", a.URL)
		}},
		{"machine", host, "machine ecr", "alice", "secret", func(t *testing.T, a *amazon) {
			t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", a.URL)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAmazon(t)
			tc.lay(t, a)
			cfg, ends, err := ecr.New(ecr.Options{Endpoint: a.URL}).Get(t.Context(), tc.host)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Username != tc.user || cfg.Password != tc.password || !ends.After(time.Now()) {
				t.Errorf("got %+v until %s", cfg, ends)
			}
			if got := a.called(); !strings.HasPrefix(got, tc.calls) {
				t.Errorf("called %q, want %q", got, tc.calls)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestErrorsHelp holds that errors say what would help, and no secret.
func TestErrorsHelp(t *testing.T) {
	a := newAmazon(t)
	s := ecr.New(ecr.Options{Endpoint: a.URL})
	if _, _, err := s.Get(t.Context(), host); err == nil || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") {
		t.Errorf("without an identity: %v", err)
	}
	a.inEnvironment()
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	_, _, err := ecr.New(ecr.Options{Endpoint: a.URL}).Get(t.Context(), host)
	if err == nil || !strings.Contains(err.Error(), "InvalidSignatureException The request signature") {
		t.Errorf("with a wrong key: %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "another") {
		t.Errorf("the error tells the key: %v", err)
	}
	for name, answer := range map[string]string{
		"denied":  `{"__type":"AccessDeniedException","Message":"User is not authorized"}`,
		"empty":   `{"authorizationData":[]}`,
		"no JSON": `<html>`,
		"garbled": `{"authorizationData":[{"authorizationToken":"%%%"}]}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if name == "denied" {
				w.WriteHeader(http.StatusBadRequest)
			}
			fmt.Fprint(w, answer)
		}))
		_, _, err := ecr.New(ecr.Options{Endpoint: server.URL}).Get(t.Context(), host)
		server.Close()
		if err == nil || name == "denied" && !strings.Contains(err.Error(), "give the identity the right") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPush pushes to a registry of that name, which wants the password that the token has.
func TestPush(t *testing.T) {
	a := newAmazon(t)
	a.inEnvironment()
	r := registrytest.Start(t, registrytest.Config{TLS: true, Names: []string{host}, Htpasswd: registrytest.Alice})
	client := func(k *auth.Keychain) *registry.Client {
		c, err := registry.New(registry.Options{
			Keychain: k, Proxy: registrytest.Tunnel(t, r.Host), Certificates: map[string]string{host: r.CA}, Retries: -1,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := client(auth.New(auth.Options{}, ecr.New(ecr.Options{Endpoint: a.URL}))).PushImage(t.Context(), host+"/team/x:1", img); err != nil {
		t.Error(err)
	}
	if got := a.called(); got != "ecr" {
		t.Errorf("called %q", got)
	}
	// Nobody is home: the registry's refusal says whom we asked.
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	err = client(auth.New(auth.Options{}, ecr.New(ecr.Options{Endpoint: a.URL}))).PushImage(t.Context(), host+"/team/x:1", img)
	if err == nil || !strings.Contains(err.Error(), "ask credential helper ecr for "+host) || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") {
		t.Errorf("got %v", err)
	}
}
