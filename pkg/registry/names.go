package registry

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// ParseReference reads the name of an image as Docker users write it: the registry is docker.io, the
// namespace library and the tag latest where they are left out. A name with a tag and a digest is that of the
// digest. The error names the reference.
func ParseReference(s string) (name.Reference, error) {
	if s == "" {
		return nil, errors.New("parse image reference: it is empty")
	}
	if s != strings.TrimSpace(s) {
		return nil, fmt.Errorf("parse image reference %q: white space around it", s)
	}
	if i := strings.Index(s, "://"); i >= 0 {
		return nil, fmt.Errorf("parse image reference %q: a reference has no scheme; leave out %q", s, s[:i+3])
	}
	r, err := name.ParseReference(s, name.WeakValidation)
	if err != nil {
		return nil, fmt.Errorf("parse image reference %q: %w", s, reason(s, err))
	}
	return r, nil
}

// reason says the most common mistake in words; go-containerregistry lists the characters that are allowed.
func reason(s string, err error) error {
	low := strings.ToLower(s)
	if _, wrong := name.ParseReference(low, name.WeakValidation); low != s && wrong == nil {
		return fmt.Errorf("repository names are lower case: %q", low)
	}
	return err
}

// canonical gives docker.io the one name that go-containerregistry uses for it.
func canonical(registry string) string {
	switch registry {
	case "docker.io", "registry-1.docker.io":
		return name.DefaultRegistry
	}
	return registry
}

// rules answer what may be done with a registry.
type rules struct {
	insecure map[Direction]bool
	skipTLS  map[Direction]bool
	plain    map[string]bool // registries that may speak plain HTTP
	blind    map[string]bool // registries whose certificates are not checked
	mirrors  map[string][]mirror
	only     bool // mirrors only
}

// mirror is a place that has the images of a registry under a prefix.
type mirror struct {
	host, prefix string
}

func newRules(o Options) (rules, error) {
	r := rules{
		insecure: map[Direction]bool{Push: o.Insecure, Pull: o.InsecurePull},
		skipTLS:  map[Direction]bool{Push: o.SkipTLSVerify, Pull: o.SkipTLSVerifyPull},
		plain:    map[string]bool{},
		blind:    map[string]bool{},
		mirrors:  map[string][]mirror{},
		only:     o.SkipDefaultFallback,
	}
	for _, h := range o.InsecureRegistries {
		r.plain[canonical(h)] = true
	}
	for _, h := range o.SkipTLSVerifyRegistries {
		r.blind[canonical(h)] = true
	}
	for registry, list := range o.Map {
		for _, s := range list {
			if err := r.addMirror(canonical(registry), s); err != nil {
				return rules{}, err
			}
		}
	}
	for _, s := range o.Mirrors {
		if err := r.addMirror(name.DefaultRegistry, s); err != nil {
			return rules{}, err
		}
	}
	return r, nil
}

func (r rules) addMirror(registry, s string) error {
	rest, plain := strings.CutPrefix(s, "http://")
	rest = strings.TrimSuffix(strings.TrimPrefix(rest, "https://"), "/")
	host, prefix, _ := strings.Cut(rest, "/")
	if _, err := name.NewRegistry(host, name.StrictValidation); err != nil {
		return fmt.Errorf("parse registry mirror %q: %w", s, err)
	}
	host = canonical(host)
	if plain {
		r.plain[host] = true
	}
	r.mirrors[registry] = append(r.mirrors[registry], mirror{host: host, prefix: prefix})
	return nil
}

// mayBePlain reports whether registry may speak plain HTTP. Docker allows all of 127.0.0.0/8,
// go-containerregistry only its first address.
func (r rules) mayBePlain(registry string, d Direction) bool {
	if r.insecure[d] || r.plain[registry] {
		return true
	}
	host := registry
	if h, _, err := net.SplitHostPort(registry); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (r rules) skipVerify(registry string, d Direction) bool {
	return r.skipTLS[d] || r.blind[registry]
}

// repository returns repo as one that speaks plain HTTP when it may.
func (r rules) repository(repo name.Repository, d Direction) (name.Repository, error) {
	if !r.mayBePlain(repo.RegistryStr(), d) {
		return repo, nil
	}
	// A registry's name can be parsed again, a repository's not: "mirror/image" would be docker.io's.
	reg, err := name.NewRegistry(repo.RegistryStr(), name.Insecure)
	if err != nil {
		return name.Repository{}, err
	}
	return reg.Repo(repo.RepositoryStr()), nil
}

// sources lists where the image may be had, in the order in which they are to be tried.
func (r rules) sources(ref name.Reference) ([]name.Reference, error) {
	var refs []name.Reference
	for _, m := range r.mirrors[ref.Context().RegistryStr()] {
		path := ref.Context().RepositoryStr()
		if m.prefix != "" {
			path = m.prefix + "/" + path
		}
		reg, err := name.NewRegistry(m.host)
		if err != nil {
			return nil, fmt.Errorf("name %q at mirror %q: %w", ref, m.host, err)
		}
		refs = append(refs, at(reg.Repo(path), ref))
	}
	if len(refs) > 0 && r.only {
		return refs, nil
	}
	return append(refs, ref), nil
}

// at names in repo what ref names in its own repository.
func at(repo name.Repository, ref name.Reference) name.Reference {
	if d, ok := ref.(name.Digest); ok {
		return repo.Digest(d.DigestStr())
	}
	return repo.Tag(ref.Identifier())
}
