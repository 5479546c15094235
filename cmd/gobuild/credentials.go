package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth/acr"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth/ecr"
	"github.com/gobuild-dev/gobuild/pkg/registry/auth/google"
)

// authConfigVariable has what config.json would have; Docker's client and GitLab's runner know it.
const authConfigVariable = "DOCKER_AUTH_CONFIG"

// helperSources are the built-in credential helpers.
func helperSources() []auth.Source {
	return []auth.Source{
		ecr.New(ecr.Options{Endpoint: os.Getenv("AWS_ENDPOINT_URL_ECR")}), google.New(), acr.New(acr.Options{}),
		auth.GitLab(os.Getenv), auth.GitHub(os.Getenv),
	}
}

func helperNames() []string {
	var names []string
	for _, s := range helperSources() {
		names = append(names, s.Name())
	}
	return names
}

// keychain finds credentials in files, where Docker and Podman have them, and then with the built-in helpers of
// these names.
func keychain(helpers []string) (authn.Keychain, error) {
	var sources []auth.Source
	for _, s := range helperSources() {
		if slices.Contains(helpers, s.Name()) {
			sources = append(sources, s)
		}
	}
	for _, name := range helpers {
		if !slices.Contains(helperNames(), name) {
			return nil, usagef("--credential-helpers %q is none of %s", name, strings.Join(helperNames(), ", "))
		}
	}
	builtIn := auth.New(auth.Options{}, sources...)
	var list []authn.Keychain
	add := func(k *registry.DockerKeychain, err error) error {
		if err == nil {
			k.StandIn(standIns(builtIn))
			list = append(list, k)
		}
		return err
	}
	if contents := os.Getenv(authConfigVariable); contents != "" {
		if err := add(registry.ParseDockerConfig([]byte(contents), authConfigVariable)); err != nil {
			return nil, err
		}
	}
	for _, file := range configFiles() {
		if err := add(registry.DockerConfigFile(file)); err != nil {
			return nil, err
		}
	}
	if len(sources) > 0 {
		list = append(list, builtIn)
	}
	return registry.Keychains(list...), nil
}

// standIns are the programs that a config.json may name, and the built-in helpers that can do what they do.
func standIns(k *auth.Keychain) map[string]registry.Helper {
	m := map[string]registry.Helper{}
	for program, name := range map[string]string{
		"ecr-login": ecr.Name, "gcr": google.Name, "gcloud": google.Name, "acr-env": acr.Name,
	} {
		m[program] = func(ctx context.Context, server string) (*authn.AuthConfig, error) {
			host, _, _ := strings.Cut(strings.TrimPrefix(server, "https://"), "/")
			return k.Ask(ctx, name, host)
		}
	}
	return m
}

// configFiles are the files with credentials, in the order in which they count: Docker's, and those of Podman that are there
// (containers-auth.json(5)).
func configFiles() []string {
	var files []string
	if dir := dockerConfigDir(); dir != "" {
		files = append(files, filepath.Join(dir, "config.json"))
	}
	for _, file := range []string{
		os.Getenv("REGISTRY_AUTH_FILE"),
		under(os.Getenv("XDG_RUNTIME_DIR"), "containers/auth.json"),
		under(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), under(os.Getenv("HOME"), ".config")), "containers/auth.json"),
	} {
		if _, err := os.Stat(file); file != "" && err == nil {
			files = append(files, file)
		}
	}
	return files
}

// dockerConfigDir is where Docker's clients keep config.json.
func dockerConfigDir() string {
	return cmp.Or(os.Getenv("DOCKER_CONFIG"), under(os.Getenv("HOME"), ".docker"))
}

// credentialFiles are absolute paths of the files that steps may not see. They are read before any step runs: the
// client has read the first ones, and clouds' identities are looked for before a root is opened that would take them away.
func credentialFiles() []string {
	home := os.Getenv("HOME")
	var files []string
	for _, file := range append(configFiles(),
		os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"),
		under(home, ".config/gcloud/application_default_credentials.json"),
		cmp.Or(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), under(home, ".aws/credentials")),
		os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"),
		os.Getenv("AZURE_CLIENT_CERTIFICATE_PATH"),
		os.Getenv("AZURE_FEDERATED_TOKEN_FILE"),
	) {
		if path, err := filepath.Abs(file); err == nil && file != "" {
			files = append(files, path)
		}
	}
	return files
}

// under is a path below a directory, or nothing where there is no such directory.
func under(dir, path string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, path)
}
