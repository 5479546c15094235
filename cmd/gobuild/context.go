package main

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// apply tells o where the files are, and how what is not here is fetched.
func (s *sourceFlags) apply(o *build.Options) error {
	if s.subPath != "" && !filepath.IsLocal(s.subPath) {
		return usagef("--context-sub-path %q leads out of the context", s.subPath)
	}
	o.Context, o.ContextDir, o.Dockerfile, o.Target = s.context, s.subPath, s.dockerfile, s.target
	o.Stdin = os.Stdin
	o.GitScheme = pullMethod()
	o.Fetch = source.Fetch{
		Secrets:    contextCredentials(s.context),
		KnownHosts: s.knownHosts,
		Proxy:      http.ProxyFromEnvironment,
		UserAgent:  "gobuild/" + version(),
	}
	return nil
}

// pullMethod is what git:// in a context stands for. Kaniko, which has no other way to name a repository, takes it for
// https unless the variable says http; "git" is the protocol of that name.
func pullMethod() string {
	if method := os.Getenv("GIT_PULL_METHOD"); method != "" {
		return method
	}
	return "https"
}

// contextCredentials are those that Kaniko takes from the environment for a context that is a git repository. They are
// for its host alone.
func contextCredentials(address string) source.Secrets {
	user, password := os.Getenv("GIT_USERNAME"), os.Getenv("GIT_PASSWORD")
	if token := os.Getenv("GIT_TOKEN"); token != "" {
		user, password = token, ""
	}
	o, isGit, err := source.ParseGit(address)
	if !isGit || err != nil || user == "" && password == "" {
		return nil
	}
	u, err := url.Parse(o.Remote)
	if err != nil || u.Host == "" {
		return nil
	}
	header := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	return func(_ context.Context, name string) ([]byte, bool, error) {
		return []byte(header), name == "GIT_AUTH_HEADER."+u.Host, nil
	}
}
