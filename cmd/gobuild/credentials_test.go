package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

const ecrHost = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

// noCredentials takes away all that this machine may have.
func noCredentials(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	for _, name := range []string{
		"DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
		"CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD", "CI_JOB_TOKEN", "CI_DEPENDENCY_PROXY_SERVER", "GITHUB_TOKEN",
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return home
}

// pushed builds an image of one file and pushes it; it returns the exit code and what was said.
func pushed(t *testing.T, args ...string) (int, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// TestMain makes a program of the test binary that is called by its name.
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Args = append([]string{"gobuild", "-c", dir, "--progress", "plain", "--push-retry", "-1"}, args...)
	said, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(said)
}

func auths(host, user, password string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

// TestWhereCredentialsAre pushes to a registry that wants a password, with the password in each place.
func TestWhereCredentialsAre(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{Htpasswd: registrytest.Alice}).Host
	write := func(t *testing.T, file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	job := func(t *testing.T, password string) {
		t.Setenv("CI_REGISTRY", host)
		t.Setenv("CI_REGISTRY_USER", "alice")
		t.Setenv("CI_REGISTRY_PASSWORD", password)
	}
	good, bad := auths(host, "alice", "secret"), auths(host, "alice", "planted-wrong")
	for _, tc := range []struct {
		name  string
		lay   func(t *testing.T, home string)
		args  []string
		fails string
	}{
		{name: "nowhere", lay: func(*testing.T, string) {}, fails: "no credentials for " + host},
		{name: "home", lay: func(t *testing.T, home string) { write(t, home+"/.docker/config.json", good) }},
		{name: "DOCKER_CONFIG", lay: func(t *testing.T, home string) {
			t.Setenv("DOCKER_CONFIG", home+"/d")
			write(t, home+"/d/config.json", good)
			write(t, home+"/.docker/config.json", bad)
		}},
		{name: "DOCKER_AUTH_CONFIG comes before files", lay: func(t *testing.T, home string) {
			t.Setenv("DOCKER_AUTH_CONFIG", good)
			write(t, home+"/.docker/config.json", bad)
		}},
		{name: "Podman's file", lay: func(t *testing.T, home string) {
			t.Setenv("XDG_RUNTIME_DIR", home+"/run")
			write(t, home+"/run/containers/auth.json", good)
		}},
		{name: "a store that stands in for its program has nothing", lay: func(t *testing.T, home string) {
			write(t, home+"/.docker/config.json", strings.Replace(good, "{", `{"credsStore":"ecr-login",`, 1))
		}},
		{name: "GitLab job", lay: func(t *testing.T, _ string) { job(t, "secret") }},
		{name: "a file comes before the job", lay: func(t *testing.T, home string) {
			job(t, "wrong")
			write(t, home+"/.docker/config.json", good)
		}},
		{name: "a wrong file is not passed over", lay: func(t *testing.T, home string) {
			job(t, "secret")
			write(t, home+"/.docker/config.json", bad)
		}, fails: "were refused"},
		{name: "no helpers", lay: func(t *testing.T, _ string) { job(t, "secret") }, args: []string{"--credential-helpers="}, fails: "no credentials"},
		{name: "other helpers", lay: func(t *testing.T, _ string) { job(t, "secret") }, args: []string{"--credential-helpers=github"}, fails: "then the credential helpers github"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.lay(t, noCredentials(t))
			code, said := pushed(t, append(tc.args, "-d", host+"/x:1")...)
			if (code == 0) != (tc.fails == "") || !strings.Contains(said, tc.fails) {
				t.Errorf("exit code %d, want %q in:\n%s", code, tc.fails, said)
			}
			if strings.Contains(said, "planted-wrong") {
				t.Errorf("it tells a password:\n%s", said)
			}
		})
	}
}

// TestKanikoConfigForECR: a config.json that names a helper that Kaniko's image has, and this one has built in.
func TestKanikoConfigForECR(t *testing.T) {
	r := registrytest.Start(t, registrytest.Config{TLS: true, Names: []string{ecrHost}, Htpasswd: registrytest.Alice})
	ecr := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") {
			http.Error(w, `{"__type":"UnrecognizedClientException"}`, http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d}]}`,
			base64.StdEncoding.EncodeToString([]byte("alice:secret")), time.Now().Add(time.Hour).Unix())
	}))
	defer ecr.Close()
	proxy, err := registrytest.Tunnel(t, r.Host)(nil)
	if err != nil {
		t.Fatal(err)
	}
	tunnel := proxy.String()
	for name, config := range map[string]string{
		"credsStore": `{"credsStore":"ecr-login"}`, "credHelpers": `{"credHelpers":{"` + ecrHost + `":"ecr-login"}}`, "neither": `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			home := noCredentials(t)
			t.Setenv("DOCKER_CONFIG", home)
			t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "planted-key")
			t.Setenv("AWS_ENDPOINT_URL_ECR", ecr.URL)
			if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("HTTPS_PROXY", tunnel)
			code, said := pushed(t, "-d", ecrHost+"/team/x:1", "--registry-certificate", ecrHost+"="+r.CA)
			if code != 0 {
				t.Errorf("exit code %d:\n%s", code, said)
			}
			if strings.Contains(said, "planted-key") {
				t.Errorf("it tells the key:\n%s", said)
			}
		})
	}
}
