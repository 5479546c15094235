package registry_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// helper puts a docker-credential program into the PATH that answers get with a script's output and counts its runs.
func helper(t *testing.T, name, script string) (runs func() int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "runs")
	text := "#!/bin/sh\nread server\necho $server >>" + log + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		b, _ := os.ReadFile(log)
		return strings.Count(string(b), "\n")
	}
}

func resolve(t *testing.T, k authn.Keychain, repo string) (*authn.AuthConfig, error) {
	t.Helper()
	r, err := name.NewRepository(repo)
	if err != nil {
		t.Fatal(err)
	}
	a, err := k.Resolve(r)
	if err != nil {
		return nil, err
	}
	return a.Authorization()
}

// TestTrap93LongestPath: of the entries that fit, the longest counts, and only whole path elements fit.
func TestTrap93LongestPath(t *testing.T) {
	k, err := registry.ParseDockerConfig([]byte(`{"auths":{
		"reg.example":           {"username":"host","password":"p"},
		"reg.example/team":      {"username":"team","password":"p"},
		"reg.example/team/app":  {"username":"app","password":"p"},
		"https://v.example/v2/": {"username":"v","password":"p"},
		"https://index.docker.io/v1/": {"username":"hub","password":"p"},
		"docker.io/mine":        {"username":"mine","password":"p"},
		"empty.example":         {}
	}}`), "test")
	if err != nil {
		t.Fatal(err)
	}
	for repo, want := range map[string]string{
		"reg.example/x":            "host",
		"reg.example/team/x":       "team",
		"reg.example/team/app":     "app",
		"reg.example/team/app/sub": "app",
		"reg.example/team/apple":   "team",
		"reg.example/teams":        "host",
		"v.example/x":              "v",
		"debian":                   "hub",
		"mine/x":                   "mine",
		"empty.example/x":          "",
		"other.example/x":          "",
		// Trap 82: a host that only begins alike gets nothing.
		"reg.example.evil.example/x": "",
		"xreg.example/x":             "",
	} {
		cfg, err := resolve(t, k, repo)
		if err != nil {
			t.Errorf("%s: %v", repo, err)
			continue
		}
		if cfg.Username != want {
			t.Errorf("%s: user %q, want %q", repo, cfg.Username, want)
		}
	}
}

func TestCredentialHelpers(t *testing.T) {
	runs := helper(t, "own", `[ "$server" = reg.example ] && echo '{"Username":"u","Secret":"s"}' || { echo credentials not found in native keychain; exit 1; }`)
	helper(t, "token", `echo '{"Username":"<token>","Secret":"t"}'`)
	helper(t, "broken", `echo no session bus >&2; exit 3`)
	k, err := registry.ParseDockerConfig([]byte(`{
		"auths": {"other.example": {"auth":"aW5saW5lOnA="}, "reg.example": {"auth":"aW5saW5lOnA="}},
		"credHelpers": {"tok.example": "token", "bad.example": "broken", "evil.example": "../x"},
		"credsStore": "own"
	}`), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ repo, user, token, fails string }{
		{repo: "reg.example/x", user: "u"},
		{repo: "reg.example/y", user: "u"},
		{repo: "other.example/x", user: "inline"}, // the store has nothing, the file has
		{repo: "tok.example/x", token: "t"},
		{repo: "none.example/x"},
		{repo: "bad.example/x", fails: "no session bus"},
		{repo: "evil.example/x", fails: "not a name"},
	} {
		cfg, err := resolve(t, k, tc.repo)
		if tc.fails != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("%s: got %v, want %q", tc.repo, err, tc.fails)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.repo, err)
			continue
		}
		if cfg.Username != tc.user || cfg.IdentityToken != tc.token {
			t.Errorf("%s: %+v", tc.repo, cfg)
		}
	}
	if n := runs(); n != 3 {
		t.Errorf("the helper ran %d times, want once for each of three registries", n)
	}
}

// TestStandIns: a helper that is not installed is stood in for, with the registry that the configuration names; one that is
// installed, or that nobody stands in for, is not.
func TestStandIns(t *testing.T) {
	helper(t, "there", `echo '{"Username":"program","Secret":"s"}'`)
	k, err := registry.ParseDockerConfig([]byte(`{
		"auths": {"plain.example": {"auth":"aW5saW5lOnA="}},
		"credHelpers": {"a.example/team": "cloud", "b.example": "there", "c.example": "missing"},
		"credsStore": "cloud"
	}`), "test")
	if err != nil {
		t.Fatal(err)
	}
	k.StandIn(map[string]registry.Helper{"cloud": func(_ context.Context, server string) (*authn.AuthConfig, error) {
		if !strings.HasPrefix(server, "a.example") {
			return nil, nil
		}
		return &authn.AuthConfig{Username: "for " + server, Password: "s"}, nil
	}, "there": nil})
	for repo, want := range map[string]string{
		"a.example/team/x": "for a.example/team", "a.example/x": "for a.example", "b.example/x": "program", "plain.example/x": "inline",
	} {
		if cfg, err := resolve(t, k, repo); err != nil || cfg.Username != want {
			t.Errorf("%s: %+v, %v, want %q", repo, cfg, err, want)
		}
	}
	if _, err := resolve(t, k, "c.example/x"); err == nil || !strings.Contains(err.Error(), "docker-credential-missing is not installed") {
		t.Errorf("got %v", err)
	}
}

// TestIdentify: what is asked for early is known later, when the program may be out of reach; the registry is not asked.
func TestIdentify(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{Htpasswd: registrytest.Alice}).Host
	p := registrytest.Before(t, host)
	path := os.Getenv("PATH")
	runs := helper(t, "early", `echo '{"Username":"alice","Secret":"secret"}'`)
	k, err := registry.ParseDockerConfig([]byte(`{"credsStore":"early"}`), "test")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, registry.Options{Keychain: k})
	if err := c.Identify(t.Context(), p.Host+"/x:1"); err != nil {
		t.Fatal(err)
	}
	if n := p.Count("", ""); n != 0 || runs() != 1 {
		t.Errorf("%d requests, %d runs of the helper", n, runs())
	}
	t.Setenv("PATH", path)
	if err := c.PushImage(t.Context(), p.Host+"/x:1", randomImage(t, 1000, 1)); err != nil {
		t.Error(err)
	}
	if err := c.Identify(t.Context(), "not a reference"); err == nil {
		t.Error("no error")
	}
}

func TestDockerConfigFiles(t *testing.T) {
	dir := t.TempDir()
	k, err := registry.DockerConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err := resolve(t, k, "reg.example/x"); err != nil || cfg.Username != "" {
		t.Errorf("without a file: %+v, %v", cfg, err)
	}
	if !strings.Contains(k.String(), "does not exist") {
		t.Errorf("String is %q", k)
	}
	file := filepath.Join(dir, "config.json")
	for contents, fails := range map[string]string{
		`{"auths":{"reg.example":{"auth":"dTpwOmM="}}}`: "",
		`{"auths":{"reg.example":{"auth":"***"}}}`:      "base64",
		`{"auths":{"reg.example":{"auth":"dXA="}}}`:     "user:password",
		`{"auths":`: "parse",
	} {
		if err := os.WriteFile(file, []byte(contents), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := registry.DockerConfig(dir)
		if fails != "" {
			if err == nil || !strings.Contains(err.Error(), fails) || !strings.Contains(err.Error(), file) {
				t.Errorf("%s: got %v", contents, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		// Read at once: it may be hidden later.
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		both := registry.Keychains(authn.NewMultiKeychain(), k)
		if cfg, err := resolve(t, both, "reg.example/x"); err != nil || cfg.Username != "u" || cfg.Password != "p:c" {
			t.Errorf("%+v, %v", cfg, err)
		}
	}
}
