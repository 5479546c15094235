package auth_test

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// environment is the variables of a job.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func TestGitLab(t *testing.T) {
	job := environment{
		"CI_REGISTRY": "reg.example:5050", "CI_REGISTRY_USER": "u-", "CI_REGISTRY_PASSWORD": "p", "CI_JOB_TOKEN": "t",
		"CI_DEPENDENCY_PROXY_SERVER": "proxy.example:443", "CI_DEPENDENCY_PROXY_USER": "d-", "CI_DEPENDENCY_PROXY_PASSWORD": "q",
	}
	k := auth.New(auth.Options{}, auth.GitLab(job.get))
	want(t, k, "reg.example:5050/x", "u-p")
	want(t, k, "proxy.example/group/x", "d-q")
	want(t, k, "proxy.example:443/group/x", "d-q")
	for _, other := range []string{"reg.example/x", "reg.example.evil.example:5050/x", "xreg.example:5050/x", "ghcr.io/x"} {
		want(t, k, other, "")
	}
	delete(job, "CI_REGISTRY_PASSWORD")
	want(t, auth.New(auth.Options{}, auth.GitLab(job.get)), "reg.example:5050/x", "gitlab-ci-tokent")
	job["CI_DEPLOY_USER"], job["CI_DEPLOY_PASSWORD"] = "deploy-", "r"
	want(t, auth.New(auth.Options{}, auth.GitLab(job.get)), "reg.example:5050/x", "deploy-r")
	want(t, auth.New(auth.Options{}, auth.GitLab(environment{}.get)), "reg.example:5050/x", "")
	want(t, auth.New(auth.Options{}, auth.GitLab(environment{"CI_JOB_TOKEN": "t"}.get)), "reg.example/x", "")
}

func TestGitHub(t *testing.T) {
	job := environment{"GITHUB_TOKEN": "t", "GITHUB_ACTOR": "me-", "GITHUB_SERVER_URL": "https://github.com"}
	k := auth.New(auth.Options{}, auth.GitHub(job.get))
	want(t, k, "ghcr.io/me/x", "me-t")
	want(t, k, "ghcr.io.evil.example/me/x", "")
	want(t, k, "docker.pkg.github.example/x", "")
	delete(job, "GITHUB_ACTOR")
	want(t, auth.New(auth.Options{}, auth.GitHub(job.get)), "ghcr.io/me/x", "x-access-tokent")
	// The token of a server of one's own is not for github.com.
	job["GITHUB_SERVER_URL"] = "https://git.example"
	k = auth.New(auth.Options{}, auth.GitHub(job.get))
	want(t, k, "ghcr.io/me/x", "")
	want(t, k, "containers.git.example/me/x", "x-access-tokent")
	want(t, auth.New(auth.Options{}, auth.GitHub(environment{}.get)), "ghcr.io/me/x", "")
}

// TestPushFromAJob pushes to a registry that wants a password with what a job has in its environment.
func TestPushFromAJob(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{Htpasswd: registrytest.Alice}).Host
	job := environment{"CI_REGISTRY": host, "CI_REGISTRY_USER": "alice", "CI_REGISTRY_PASSWORD": "secret"}
	c, err := registry.New(registry.Options{Keychain: auth.New(auth.Options{}, auth.GitLab(job.get))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PushImage(t.Context(), host+"/group/x:1", img); err != nil {
		t.Error(err)
	}
}
