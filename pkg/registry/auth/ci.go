package auth

import (
	"cmp"
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// GitLab returns the source of a GitLab job's own registry and dependency proxy. env looks up a variable of the job's
// environment (https://docs.gitlab.com/ci/variables/predefined_variables/).
//
// The registry is CI_REGISTRY; credentials are CI_REGISTRY_USER and CI_REGISTRY_PASSWORD, or else CI_DEPLOY_USER and
// CI_DEPLOY_PASSWORD, or else CI_JOB_TOKEN. The dependency proxy is CI_DEPENDENCY_PROXY_SERVER with
// CI_DEPENDENCY_PROXY_USER and CI_DEPENDENCY_PROXY_PASSWORD, or else CI_JOB_TOKEN.
func GitLab(env func(name string) string) Source {
	pair := func(prefix string) authn.AuthConfig {
		return authn.AuthConfig{Username: env(prefix + "_USER"), Password: env(prefix + "_PASSWORD")}
	}
	job := authn.AuthConfig{Username: "gitlab-ci-token", Password: env("CI_JOB_TOKEN")}
	s := fixed{name: "gitlab", byHost: map[string]authn.AuthConfig{}}
	s.add(env("CI_DEPENDENCY_PROXY_SERVER"), pair("CI_DEPENDENCY_PROXY"), job)
	s.add(env("CI_REGISTRY"), pair("CI_REGISTRY"), pair("CI_DEPLOY"), job)
	return s
}

// GitHub returns the source of GitHub's registry in the environment of a job, or of whoever has a token: GITHUB_TOKEN,
// with GITHUB_ACTOR as the user. The registry is ghcr.io or, if GITHUB_SERVER_URL names another server, that of the
// server.
func GitHub(env func(name string) string) Source {
	host := "ghcr.io"
	if u, err := url.Parse(env("GITHUB_SERVER_URL")); err == nil && u.Host != "" && !strings.EqualFold(u.Host, "github.com") {
		host = "containers." + u.Host
	}
	s := fixed{name: "github", byHost: map[string]authn.AuthConfig{}}
	s.add(host, authn.AuthConfig{Username: cmp.Or(env("GITHUB_ACTOR"), "x-access-token"), Password: env("GITHUB_TOKEN")})
	return s
}

// fixed is credentials that are known from the start.
type fixed struct {
	name   string
	byHost map[string]authn.AuthConfig
}

// add takes the first of the credentials that are whole for the host, unless it has some.
func (s fixed) add(host string, list ...authn.AuthConfig) {
	host = bare(host)
	for _, cfg := range list {
		if _, ok := s.byHost[host]; host != "" && !ok && cfg.Username != "" && cfg.Password != "" {
			s.byHost[host] = cfg
		}
	}
}

func (s fixed) Name() string { return s.name }

func (s fixed) Serves(host string) bool {
	_, ok := s.byHost[bare(host)]
	return ok
}

func (s fixed) Get(_ context.Context, host string) (authn.AuthConfig, time.Time, error) {
	cfg, ok := s.byHost[bare(host)]
	if !ok {
		return cfg, time.Time{}, ErrNone
	}
	return cfg, time.Time{}, nil
}

// bare is a host without the port that HTTPS has anyway.
func bare(host string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(host)), ":443")
}
