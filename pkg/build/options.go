package build

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// Options say what to build and where the image goes. The zero value builds the Dockerfile of the present
// directory and keeps nothing but the local cache.
type Options struct {
	// Context is where the files are that COPY and ADD see: a directory, an archive, "-", or the URL of a git repository,
	// an archive or a Dockerfile, as source.Open takes it; "." when empty.
	Context string
	// ContextDir is a directory below the context that is the context in its place.
	ContextDir string
	// Dockerfile is a path, as it is or inside the context, a URL, or "-"; the context's Dockerfile when empty.
	Dockerfile string
	// Stdin is what "-" stands for.
	Stdin io.Reader
	// Fetch says how the context and what ADD names are fetched, besides what Secrets and SSH say. Without a Dir they are
	// kept in the work directory.
	Fetch source.Fetch
	// GitScheme, when not empty, stands for "git" in a context of git://: Kaniko means https by that.
	GitScheme string
	// Target is the name or number of the stage to build; the last one when empty.
	Target string
	// BuildArgs are values for the Dockerfile's ARGs.
	BuildArgs map[string]string
	// Contexts are further contexts by name, which stand for stages, bases and sources of that name; a name may end in
	// "::" and a platform. A value is a directory, a URL of a file or of a git repository, docker-image://REF,
	// oci-layout://PATH[:TAG][@DIGEST], or target:STAGE.
	Contexts map[string]string
	// Secrets are what RUN --mount=type=secret gives to processes, by id, and with what remote sources are
	// fetched: HTTP_AUTH_TOKEN_<host>, HTTP_AUTH_HEADER_<host>, GIT_AUTH_TOKEN and GIT_AUTH_HEADER, the last two with or without
	// a dot and a host. No value of theirs becomes part of an image, a key or an event.
	Secrets map[string]Secret
	// SSH are the agents of RUN --mount=type=ssh, by id, each one socket or any number of key files. Git over ssh uses
	// "default".
	SSH map[string][]string
	// DeviceDirs are where the devices that RUN --device names are described (see package cdi); nil means
	// cdi.DefaultDirs.
	DeviceDirs []string
	// Allow lists entitlements: "security.insecure", "device", or "device", "=" and one device's name.
	Allow []string
	// Hostname is the name of the machine that processes see.
	Hostname string
	// Hosts are further lines of the /etc/hosts that processes see: an address, a blank and a name.
	Hosts []string
	// ShmSize is the size of the /dev/shm that processes see, in bytes; 0 is 64 MiB.
	ShmSize int64
	// Labels are added to the image.
	Labels map[string]string
	// Annotations are put into the manifest.
	Annotations map[string]string
	// Platform is what to build for; the zero value is linux on this machine's architecture, but for what a
	// base image that is made for something else says.
	Platform v1.Platform

	// Destinations are references to push to.
	Destinations []string
	// Outputs are files and folders to write, and further references. Path "-" is Stdout.
	Outputs []push.Output
	// Stdout receives the one output that goes to "-".
	Stdout io.Writer
	// Exporters are further places for the image.
	Exporters []push.Exporter

	// Registry is the client for bases and destinations. Nil makes one without credentials.
	Registry *registry.Client

	// WorkDir is where layers and results of steps are kept between builds. Several builds may share it. Empty
	// is "gobuild" in the user's cache directory.
	WorkDir string
	// BaseDirs are OCI layouts, such as Warm fills, in which layers of base images are looked for before they are fetched.
	BaseDirs []string
	// NoCache makes every step anew. Results are still kept for later builds.
	NoCache bool
	// NoCacheFilter names stages whose steps are made anew.
	NoCacheFilter []string
	// CacheTTL is how old a kept result of a step may be, counted from when it was made, unless a comment above its
	// instruction says otherwise; zero is any age.
	CacheTTL time.Duration
	// CacheFrom are further places to look for results in, all at once; the first in order wins. CacheTo are further places
	// for results, which may be the same.
	CacheFrom, CacheTo []CacheStore
	// InlineCache keeps the results that the image consists of in the image itself (see package pkg/cache/inline). The build argument
	// BUILDKIT_INLINE_CACHE asks for it, too.
	InlineCache bool
	// NoCacheCopies keeps results of COPY and ADD in the work directory alone, NoCacheRuns those of RUN.
	NoCacheCopies, NoCacheRuns bool
	// ExplainCache tells, by an event for each stage, why the first step that has no kept result has none.
	ExplainCache bool
	// CacheMounts says where caches that RUN --mount=type=cache gives to processes are shared with other machines.
	CacheMounts CacheMounts
	// Isolation is the name of the sandbox driver, or "auto", which is also the default.
	Isolation string
	// PrivateFiles are absolute paths of files with credentials that are not needed any more: they are out of the sight of steps, whatever the
	// driver.
	PrivateFiles []string
	// DisposableContainer says that steps may use the files of the container that this process is in, which are put aside
	// meanwhile; gobuild's own image says so itself. It is not believed on a host.
	DisposableContainer bool
	// StepProgram is what those drivers execute to work in other namespaces; nil is the program that calls this package.
	StepProgram *sandbox.Program
	// Drivers replaces the drivers that Isolation chooses from.
	Drivers []sandbox.Driver

	// Compression of new layers; gzip when empty.
	Compression snapshot.Compression
	// CompressionLevel is on the compressor's own scale; zero is its default.
	CompressionLevel int
	// DockerMediaTypes asks for Docker's media types instead of the OCI ones.
	DockerMediaTypes bool
	// Epoch, when not zero, is the time of everything in the image that would have the present time, unless the build argument
	// SOURCE_DATE_EPOCH or the Dockerfile gives another.
	Epoch time.Time
	// RewriteTimestamps lets no file in a new layer be younger than that time: later times become it. Layers of base images
	// stay as they are. Without such a time it has no effect but a warning. An Output may ask for it too.
	RewriteTimestamps bool

	// Progress receives what happens. It may be nil.
	Progress progress.Sink
}

// withDefaults fills in what was left empty.
func (o Options) withDefaults() (Options, error) {
	if o.Context == "" {
		o.Context = "."
	}
	if o.Isolation == "" {
		o.Isolation = sandbox.Auto
	}
	if err := o.checkIsolation(); err != nil {
		return o, err
	}
	if o.Progress == nil {
		o.Progress = discard{}
	}
	if o.WorkDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("find work directory: %w; name one", err)
		}
		o.WorkDir = filepath.Join(cache, "gobuild")
	}
	// Sandboxes mount and change directories, so that nothing relative would stay what it is.
	dir, err := filepath.Abs(o.WorkDir)
	if err != nil {
		return o, fmt.Errorf("find work directory: %w", err)
	}
	o.WorkDir = dir
	o.Secrets = remembered(o.Secrets)
	// As BuildKit reads it: what is no truth value asks for nothing.
	if on, err := strconv.ParseBool(o.BuildArgs["BUILDKIT_INLINE_CACHE"]); err == nil && on {
		o.InlineCache = true
	}
	return o, nil
}

// HostPlatform is the platform of images that run on this machine.
func HostPlatform() v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	switch runtime.GOARCH {
	case "arm":
		p.Variant = "v7"
	}
	return p
}

type discard struct{}

func (discard) Emit(progress.Event) {}
