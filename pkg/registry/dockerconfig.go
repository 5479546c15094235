package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// DockerConfig returns the keychain of a folder that has Docker's config.json, read now, so that the file may
// be hidden from what runs later. A folder or file that does not exist makes a keychain without credentials.
// See [DockerConfigFile].
func DockerConfig(dir string) (*DockerKeychain, error) {
	return DockerConfigFile(filepath.Join(dir, "config.json"))
}

// DockerConfigFile is [DockerConfig] for a file of any name, such as Podman's auth.json.
func DockerConfigFile(file string) (*DockerKeychain, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &DockerKeychain{origin: file + ", which does not exist", helpers: newHelpers()}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	return ParseDockerConfig(b, file)
}

// ParseDockerConfig returns the keychain of a config.json with these contents. origin says in errors where
// they are from.
func ParseDockerConfig(contents []byte, origin string) (*DockerKeychain, error) {
	var f struct {
		Auths       map[string]inlineAuth `json:"auths"`
		CredHelpers map[string]string     `json:"credHelpers"`
		CredsStore  string                `json:"credsStore"`
	}
	if err := json.Unmarshal(contents, &f); err != nil {
		return nil, fmt.Errorf("parse credentials in %s: %w", origin, err)
	}
	k := &DockerKeychain{
		origin: origin, inline: map[string]authn.AuthConfig{}, byHost: map[string]string{},
		store: f.CredsStore, helpers: newHelpers(),
	}
	for key, a := range f.Auths {
		cfg, err := a.config()
		if err != nil {
			return nil, fmt.Errorf("parse credentials for %q in %s: %w", key, origin, err)
		}
		// Docker leaves an empty entry for what its helper keeps. "https://index.docker.io/v1/" and "docker.io"
		// may both be there: any that is not empty will do.
		if cfg != (authn.AuthConfig{}) {
			k.inline[configKey(key)] = cfg
		}
	}
	for key, helper := range f.CredHelpers {
		k.byHost[configKey(key)] = helper
	}
	return k, nil
}

// inlineAuth is an entry of "auths".
type inlineAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func (a inlineAuth) config() (authn.AuthConfig, error) {
	cfg := authn.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}
	if a.Auth == "" {
		return cfg, nil
	}
	b, err := base64.StdEncoding.DecodeString(a.Auth)
	if err != nil {
		if b, err = base64.RawStdEncoding.DecodeString(a.Auth); err != nil {
			return authn.AuthConfig{}, errors.New(`"auth" is not base64`)
		}
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return authn.AuthConfig{}, errors.New(`"auth" is not the base64 of user:password`)
	}
	// Docker's client pads with NUL bytes.
	cfg.Username, cfg.Password = user, strings.TrimRight(password, "\x00")
	return cfg, nil
}

// configKey makes "https://registry/v2/" and "registry" one.
func configKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	host, path, _ := strings.Cut(key, "/")
	host = canonical(host)
	if path == "" || path == "v1" || path == "v2" {
		return host
	}
	return host + "/" + path
}

// DockerKeychain finds credentials the way Docker's client does, and by path as in containers-auth.json(5): of
// "registry/team/image", "registry/team" and "registry", the longest that is known counts. For each of them
// a helper of its own ("credHelpers") comes before credentials in the file ("auths"); for the registry as a whole, the
// general helper ("credsStore") comes between the two.
//
// A helper that has nothing for a registry is passed over; one that fails is an error. Helpers are programs; see
// [DockerKeychain.StandIn] for those that are not installed. It is safe for concurrent use.
type DockerKeychain struct {
	origin  string
	inline  map[string]authn.AuthConfig
	byHost  map[string]string // helper by key
	store   string
	helpers *helpers
}

var _ authn.Keychain = (*DockerKeychain)(nil)

// Helper answers in place of a credential helper's program. It gets the registry as the configuration has it, which may
// have a path, and returns nil when it has nothing for it. It is called by one goroutine at a time.
type Helper func(ctx context.Context, server string) (*authn.AuthConfig, error)

// StandIn lets helpers, by their names in "credHelpers" and "credsStore", answer where the programs of these names are not
// installed. It is to be called before the keychain is used.
func (k *DockerKeychain) StandIn(byName map[string]Helper) { k.helpers.standIns = byName }

// String says where the credentials are from.
func (k *DockerKeychain) String() string { return k.origin }

// Resolve implements authn.Keychain.
func (k *DockerKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target)
}

// ResolveContext implements authn.ContextKeychain.
func (k *DockerKeychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	host := target.RegistryStr()
	for key := target.String(); ; key = key[:strings.LastIndexByte(key, '/')] {
		if helper := k.byHost[key]; helper != "" {
			if a, err := k.ask(ctx, helper, key); a != nil || err != nil {
				return a, err
			}
		}
		if key == host && k.store != "" {
			if a, err := k.ask(ctx, k.store, key); a != nil || err != nil {
				return a, err
			}
		}
		if cfg, ok := k.inline[key]; ok {
			return authn.FromConfig(cfg), nil
		}
		if !strings.Contains(key, "/") {
			return authn.Anonymous, nil
		}
	}
}

// ask returns nil when the helper has nothing.
func (k *DockerKeychain) ask(ctx context.Context, helper, key string) (authn.Authenticator, error) {
	server := key
	if key == name.DefaultRegistry {
		server = authn.DefaultAuthKey
	}
	a := &helped{helpers: k.helpers, helper: helper, server: server}
	cfg, err := a.get(ctx)
	if err != nil || cfg == nil {
		return nil, err
	}
	return a, nil
}

// Keychains is the keychains as one: the first that has credentials counts. One that fails is passed
// over, and its error returned if no other has any.
func Keychains(list ...authn.Keychain) authn.Keychain { return keychains(list) }

type keychains []authn.Keychain

func (ks keychains) String() string {
	var names []string
	for _, k := range ks {
		if s, ok := k.(fmt.Stringer); ok {
			names = append(names, s.String())
		}
	}
	return strings.Join(names, ", then ")
}

func (ks keychains) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return ks.ResolveContext(context.Background(), target)
}

func (ks keychains) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	var problems []error
	for _, k := range ks {
		a, err := authn.Resolve(ctx, k, target)
		switch {
		case err != nil:
			problems = append(problems, err)
		case a != authn.Anonymous:
			return a, nil
		}
	}
	return authn.Anonymous, errors.Join(problems...)
}

// helpers remembers what credential helpers said, since some take a second to say it and each
// repository asks.
type helpers struct {
	standIns map[string]Helper

	mu    sync.Mutex
	known map[string]answer // by helper and server
}

func newHelpers() *helpers { return &helpers{known: map[string]answer{}} }
