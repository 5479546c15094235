package main

import (
	"net/http"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/pflag"

	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// sourceFlags say what is built. The plan command has them too.
type sourceFlags struct {
	context, subPath, dockerfile, target, platform string
	knownHosts                                     string
	buildArgs, labels                              []string
}

func (s *sourceFlags) register(f *pflag.FlagSet) {
	f.StringVarP(&s.context, "context", "c", ".", "`place` of the files to build from: a directory, a tar archive, - for standard input, or the URL of a git repository (#ref:directory), an archive or a Dockerfile")
	f.StringVar(&s.subPath, "context-sub-path", "", "directory below the context to use as the context")
	f.StringVarP(&s.dockerfile, "dockerfile", "f", "", "`path` of the Dockerfile, as it is or inside the context, its URL, or - for standard input (default Dockerfile)")
	f.StringVar(&s.knownHosts, "ssh-known-hosts", "", "`file` of the host keys that git over ssh accepts (default any)")
	f.StringVar(&s.target, "target", "", "name or number of the stage to build (default the last one)")
	f.StringArrayVar(&s.buildArgs, "build-arg", nil, "`NAME=value` of an ARG; NAME alone takes the value from the environment (repeatable)")
	f.StringArrayVar(&s.labels, "label", nil, "`name=value` to put into the image's labels (repeatable)")
	f.StringVar(&s.platform, "platform", "", "`os/arch[/variant]` to build for (default linux on this machine's architecture)")
	f.StringVar(&s.platform, "custom-platform", "", "the same as --platform")
}

// args returns the build arguments. One that is set nowhere is left out, as if it were not given.
func (s *sourceFlags) args() (map[string]string, error) {
	m := map[string]string{}
	for _, arg := range s.buildArgs {
		name, value, given := strings.Cut(arg, "=")
		if name == "" {
			return nil, usagef("--build-arg %q has no name: write NAME=value", arg)
		}
		if !given {
			if value, given = os.LookupEnv(name); !given {
				continue
			}
		}
		m[name] = value
	}
	// BuildKit's clients pass this one on, too (https://reproducible-builds.org/specs/source-date-epoch/).
	if _, given := m[epochArg]; !given && os.Getenv(epochArg) != "" {
		m[epochArg] = os.Getenv(epochArg)
	}
	return m, nil
}

// epochArg is the build argument, and the variable, that fixes the time.
const epochArg = "SOURCE_DATE_EPOCH"

// pairs reads the name=value pairs of a repeatable flag.
func pairs(flag string, words []string) (map[string]string, error) {
	m := map[string]string{}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		if name == "" {
			return nil, usagef("--%s %q has no name: write name=value", flag, w)
		}
		m[name] = value
	}
	return m, nil
}

func parsePlatform(s string) (v1.Platform, error) {
	if s == "" {
		return v1.Platform{}, nil
	}
	p, err := v1.ParsePlatform(s)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return v1.Platform{}, usagef("--platform %q is not of the form os/arch[/variant]", s)
	}
	return *p, nil
}

// registryFlags say how registries are reached.
type registryFlags struct {
	o                                 registry.Options
	certificates, clientCerts, mapped []string
	retries                           int
	helpers                           []string
}

func (r *registryFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&r.o.Insecure, "insecure", false, "push over plain HTTP where a registry has no HTTPS")
	f.BoolVar(&r.o.InsecurePull, "insecure-pull", false, "pull over plain HTTP where a registry has no HTTPS")
	f.StringArrayVar(&r.o.InsecureRegistries, "insecure-registry", nil, "`registry` that may speak plain HTTP (repeatable)")
	f.BoolVar(&r.o.SkipTLSVerify, "skip-tls-verify", false, "do not verify certificates when pushing")
	f.BoolVar(&r.o.SkipTLSVerifyPull, "skip-tls-verify-pull", false, "do not verify certificates when pulling")
	f.StringArrayVar(&r.o.SkipTLSVerifyRegistries, "skip-tls-verify-registry", nil, "`registry` whose certificate is not verified (repeatable)")
	f.StringArrayVar(&r.certificates, "registry-certificate", nil, "`registry=ca.pem` to trust for a registry (repeatable)")
	f.StringArrayVar(&r.clientCerts, "registry-client-cert", nil, "`registry=cert.pem,key.pem` to show to a registry (repeatable)")
	f.StringArrayVar(&r.o.Mirrors, "registry-mirror", nil, "`registry[/prefix]` to try before Docker Hub (repeatable)")
	f.StringArrayVar(&r.mapped, "registry-map", nil, "`registry=mirror[;registry=mirror...]` to try before a registry (repeatable)")
	f.BoolVar(&r.o.SkipDefaultFallback, "skip-default-registry-fallback", false, "do not fall back from mirrors to the registry itself")
	f.StringSliceVar(&r.helpers, "credential-helpers", helperNames(), "`names` of the built-in helpers that are asked for credentials for registries of theirs; empty for none")
	f.IntVar(&r.retries, "push-retry", 0, "how often a transfer is tried again (default 5)")
}

// client makes the registry client.
func (r *registryFlags) client(warn func(string)) (*registry.Client, error) {
	o := r.o
	o.Warn = warn
	o.Proxy = http.ProxyFromEnvironment
	o.UserAgent = "gobuild/" + version()
	o.Retries = r.retries
	var err error
	if o.Keychain, err = keychain(r.helpers); err != nil {
		return nil, err
	}
	if o.Certificates, err = pairs("registry-certificate", r.certificates); err != nil {
		return nil, err
	}
	certs, err := pairs("registry-client-cert", r.clientCerts)
	if err != nil {
		return nil, err
	}
	o.ClientCerts = map[string]registry.ClientCert{}
	for host, files := range certs {
		cert, key, ok := strings.Cut(files, ",")
		if !ok {
			return nil, usagef("--registry-client-cert %s=%s: write registry=cert.pem,key.pem", host, files)
		}
		o.ClientCerts[host] = registry.ClientCert{Cert: cert, Key: key}
	}
	o.Map = map[string][]string{}
	for _, words := range r.mapped {
		for word := range strings.SplitSeq(words, ";") {
			from, to, ok := strings.Cut(word, "=")
			if !ok || from == "" || to == "" {
				return nil, usagef("--registry-map %q: write registry=mirror", word)
			}
			o.Map[from] = append(o.Map[from], to)
		}
	}
	return registry.New(o)
}

// layerFlags say how new layers are written.
type layerFlags struct {
	compression, format string
	level               int
	rewrite             bool
	reproducible        bool
}

func (l *layerFlags) register(f *pflag.FlagSet) {
	f.StringVar(&l.compression, "compression", "gzip", "compression of new layers: gzip, zstd or uncompressed")
	f.IntVar(&l.level, "compression-level", 0, "level on the compressor's own scale (default 6 for gzip, 3 for zstd)")
	f.StringVar(&l.format, "image-format", "oci", "media types of the image: oci or docker")
	f.BoolVar(&l.rewrite, "rewrite-timestamp", false, "let no file in new layers be younger than SOURCE_DATE_EPOCH")
	f.BoolVar(&l.reproducible, "reproducible", false, "the same, with 1970-01-01 where SOURCE_DATE_EPOCH is not set")
}

// epoch is the time to use where SOURCE_DATE_EPOCH gives none.
func (l *layerFlags) epoch() time.Time {
	if l.reproducible {
		return time.Unix(0, 0).UTC()
	}
	return time.Time{}
}

func (l *layerFlags) parse() (c snapshot.Compression, docker bool, err error) {
	switch c = snapshot.Compression(l.compression); c {
	case snapshot.Gzip, snapshot.Zstd, snapshot.Uncompressed:
	default:
		return "", false, usagef("--compression %q is none of gzip, zstd, uncompressed", l.compression)
	}
	switch l.format {
	case "oci":
	case "docker":
		docker = true
	default:
		return "", false, usagef("--image-format %q is none of oci, docker", l.format)
	}
	if docker && c == snapshot.Zstd {
		return "", false, usagef("--compression zstd needs --image-format oci: Docker's media types have no name for it")
	}
	return c, docker, nil
}
