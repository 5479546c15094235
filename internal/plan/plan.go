// Package plan turns the instructions of a Dockerfile, build arguments, platforms and the configs of
// base images into an immutable graph of steps. It touches no disk and runs nothing: what
// a step will do is known in full before the first one starts, but for the files it will see.
package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// Needs says how much of the filesystem below it an operation needs. Each level includes the ones before.
type Needs uint8

const (
	// NeedsNothing is for operations that change only the config.
	NeedsNothing Needs = iota
	// NeedsIndex is for operations that are computed against the list of files below them.
	NeedsIndex
	// NeedsRoot is for operations that run a process in the files themselves.
	NeedsRoot
)

func (n Needs) String() string {
	return [...]string{"nothing", "index", "root"}[n]
}

// Op is what a step does: one of Pull, Scratch, HTTP, Git, Local, Run, Copy, WorkDir and Config. All words in it are final: variables
// are expanded, defaults filled in.
type Op interface {
	Needs() Needs
	op()
}

type (
	// Scratch begins with no files and an empty config.
	Scratch struct{}

	// Pull begins with the layers of an image.
	Pull struct {
		// Ref is the reference as Bases takes it.
		Ref string `json:"ref"`
		// Digest is that of the image's manifest for the step's platform.
		Digest v1.Hash `json:"digest"`
	}

	// HTTP begins with the one file that a URL gives.
	HTTP struct {
		URL string `json:"url"`
		// Name is what the file is called in the root of the tree; empty is what the URL or the server calls it.
		Name string `json:"name,omitempty"`
		// Checksum, as algorithm:hex, is that which the file must have.
		Checksum string `json:"checksum,omitempty"`
	}

	// Git begins with the files of a commit.
	Git struct {
		// Remote is a URL, or the host:path form of ssh.
		Remote string `json:"remote"`
		// Ref is a branch, a tag, a full name of a reference or a commit; empty is the remote's HEAD.
		Ref string `json:"ref,omitempty"`
		// Subdir is the directory of the checkout that becomes the root of the tree.
		Subdir string `json:"subdir,omitempty"`
		// Checksum is a commit or the beginning of one that the commit must have.
		Checksum string `json:"checksum,omitempty"`
		// KeepDir keeps .git.
		KeepDir bool `json:"keepDir,omitempty"`
		// SkipSubmodules leaves submodules empty.
		SkipSubmodules bool `json:"skipSubmodules,omitempty"`
		// CommitTime gives all files the time of the commit, instead of that of the checkout.
		CommitTime bool `json:"commitTime,omitempty"`
		// FetchByCommit fetches the commit Checksum by its id, whatever Ref names now.
		FetchByCommit bool `json:"fetchByCommit,omitempty"`
	}

	// Local begins with the files of a named context that is a directory.
	Local struct {
		// Context is its name.
		Context string `json:"context"`
	}

	// Run runs a process.
	Run struct {
		// Args is the whole command line, with the shell in front for the shell form.
		Args []string `json:"args"`
		// Env is the environment in full, declared build arguments included.
		Env []string `json:"env"`
		// Proxies are the predefined proxy arguments as variables, in both cases of letters. They are given to the
		// process as Environ says, and are no part of the key or the history.
		Proxies []string `json:"-"`
		Dir     string   `json:"dir"`
		User    string   `json:"user,omitempty"`
		// Network is "default", "none" or "host".
		Network string `json:"network,omitempty"`
		// Hostname is empty for the default.
		Hostname string `json:"hostname,omitempty"`
		// Hosts are further lines of /etc/hosts: an address, a blank and a name.
		Hosts []string `json:"hosts,omitempty"`
		// Insecure is --security=insecure.
		Insecure bool     `json:"insecure,omitempty"`
		Devices  []Device `json:"devices,omitempty"`
		// Mounts are in the order in which they are mounted.
		Mounts []Mount `json:"mounts,omitempty"`
		// Files are shown to the process at /dev/pipes: heredocs that are scripts.
		Files []InlineFile `json:"files,omitempty"`
	}

	// Copy is COPY and ADD.
	Copy struct {
		// Sources are taken one after another; with several, or with a wildcard, Dest is a directory. Inline ones come last.
		Sources []Source `json:"sources"`
		// Dest is absolute; a trailing slash, or "/." at the end, says that it is a directory.
		Dest string `json:"dest"`
		// Chown is "user", "user:group" or the numeric forms; empty is 0:0 for context files and unchanged for
		// those of a stage or an image.
		Chown string `json:"chown,omitempty"`
		// Chmod is octal or symbolic; empty keeps modes.
		Chmod   string   `json:"chmod,omitempty"`
		Link    bool     `json:"link,omitempty"`
		Parents bool     `json:"parents,omitempty"`
		Exclude []string `json:"exclude,omitempty"`
	}

	// WorkDir makes a directory, and its parents, owned by User, where missing.
	WorkDir struct {
		Path string `json:"path"`
		User string `json:"user,omitempty"`
	}

	// Config changes nothing but the config, which is in Step.Image.
	Config struct{}
)

// Source is where a Copy takes files from. Exactly one of its kinds is set.
type Source struct {
	// Path is a path or a pattern in From, from its root on, with a leading slash. With Parents it may have a "/./" before the
	// part that is kept.
	Path string `json:"path,omitempty"`
	// Literal says that Path is no pattern, whatever is in it.
	Literal bool `json:"literal,omitempty"`
	// Unpack unpacks a source that is an archive into the destination.
	Unpack bool `json:"unpack,omitempty"`
	// From is the step whose files are copied; nil is the build context.
	From *Step `json:"-"`
	// Inline is a heredoc.
	Inline *InlineFile `json:"inline,omitempty"`
}

// MountType is the kind of a Mount.
type MountType string

// Kinds of mounts, as --mount=type= names them.
const (
	MountBind   MountType = "bind"
	MountCache  MountType = "cache"
	MountTmpfs  MountType = "tmpfs"
	MountSecret MountType = "secret"
	MountSSH    MountType = "ssh"
)

// Mount is one --mount of a RUN, with all defaults filled in.
type Mount struct {
	Type MountType `json:"type"`
	// Target is absolute; empty for a secret that is only a variable.
	Target string `json:"target,omitempty"`
	// From is the step whose files are mounted, or that a cache begins with; nil is the build context for a bind mount, and
	// an empty directory for a cache.
	From *Step `json:"-"`
	// Source is the path that is mounted, absolute, inside the files of From or of the cache.
	Source   string `json:"source,omitempty"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	// ID names a cache, its namespace included, a secret or an ssh agent.
	ID string `json:"id,omitempty"`
	// Sharing, of a cache, is "shared", "private" or "locked".
	Sharing string `json:"sharing,omitempty"`
	// Required makes a secret or an agent that is not there an error.
	Required bool `json:"required,omitempty"`
	// Env is the variable that a secret is given in.
	Env string `json:"env,omitempty"`
	// Mode holds the permission bits of a cache's directory, a secret or a socket, and UID and GID their owner.
	Mode int64 `json:"mode,omitempty"`
	UID  int   `json:"uid,omitempty"`
	GID  int   `json:"gid,omitempty"`
	// Size limits a tmpfs, in bytes; 0 is no limit.
	Size int64 `json:"size,omitempty"`
}

// Device is one --device of a RUN.
type Device struct {
	Name     string `json:"name"`
	Required bool   `json:"required,omitempty"`
}

// InlineFile is a file whose contents stand in the Dockerfile.
type InlineFile struct {
	// Name is a base name for Copy, an absolute path for Run.
	Name string `json:"name"`
	Data string `json:"data"`
	Mode int64  `json:"mode"`
}

// Environ is what the process gets: Env, in which each of Proxies replaces the variable of its name or comes last.
func (r Run) Environ() []string {
	env := slices.Clone(r.Env)
	for _, p := range r.Proxies {
		name, _, _ := strings.Cut(p, "=")
		i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if i < 0 {
			env = append(env, p)
		} else {
			env[i] = p
		}
	}
	return env
}

func (Scratch) Needs() Needs { return NeedsNothing }
func (Pull) Needs() Needs    { return NeedsNothing }
func (HTTP) Needs() Needs    { return NeedsNothing }
func (Git) Needs() Needs     { return NeedsNothing }
func (Local) Needs() Needs   { return NeedsNothing }
func (Run) Needs() Needs     { return NeedsRoot }
func (Copy) Needs() Needs    { return NeedsIndex }
func (WorkDir) Needs() Needs { return NeedsIndex }
func (Config) Needs() Needs  { return NeedsNothing }

func (Scratch) op() {}
func (Pull) op()    {}
func (HTTP) op()    {}
func (Git) op()     {}
func (Local) op()   {}
func (Run) op()     {}
func (Copy) op()    {}
func (WorkDir) op() {}
func (Config) op()  {}

// Step is one node of the graph. Nothing in it may be changed: steps share slices and maps, of their images above all.
// What is to be changed has to be cloned first.
type Step struct {
	// ID counts from 1 in the order of Plan.Steps.
	ID int
	Op Op
	// Base is the step on whose files and config this one works; nil for Pull and Scratch.
	Base *Step
	// Uses are the steps whose files this one reads besides Base's: those of Copy's sources and of Run's mounts.
	Uses     []*Step
	Platform v1.Platform
	Source   dockerfile.Position
	// NoCache makes the step anew, whatever is in the cache.
	NoCache bool
	// CacheTTL is how old a result from the cache may be, counted from when it was made; nil is what holds for all steps.
	CacheTTL *time.Duration
	// Name is the step as users of BuildKit know it: "[build 2/4] RUN make".
	Name string
	// Image is the image's config after this step. Its rootfs, Created and the times in History are left
	// to be filled in; its History holds an entry for each instruction so far, the base's own first with their times.
	Image *dockerspec.DockerOCIImage
	// Adds holds the history entries that this step added: usually one, none for some, several for ARG.
	// They are the last of Image.History.
	Adds []ocispec.History
}

// Plan is the graph, without the steps that no goal needs.
type Plan struct {
	// Steps is in an order in which each step comes after those it depends on.
	Steps []*Step
	// Goals are the last steps of the target, one for each platform, in the order asked for. Their images are
	// complete but for what Step.Image leaves open.
	Goals []*Step
	// Epoch is the time that SOURCE_DATE_EPOCH gives, by a build argument or by a global ARG, in whole seconds; nil when neither
	// does.
	Epoch *time.Time
	// Warnings are for the user: they do not stop the build. They are sorted by line.
	Warnings []Warning
}

// Warning is a remark on a line.
type Warning struct {
	Pos dockerfile.Position `json:"position"`
	// Rule is the name of the linter's rule; empty when it is none of the linter's.
	Rule string `json:"rule,omitempty"`
	// Description says what the rule is about, and URL where more stands. Both belong to the rule, and URL may be empty.
	Description string `json:"-"`
	URL         string `json:"-"`
	Text        string `json:"text"`
}

func (w Warning) String() string {
	if w.Rule == "" {
		return fmt.Sprintf("%s: %s", w.Pos, w.Text)
	}
	return fmt.Sprintf("%s: %s: %s", w.Pos, w.Rule, w.Text)
}

// Base is what is known of a base image at planning time.
type Base struct {
	// Digest is that of the manifest for the platform.
	Digest v1.Hash
	// Config is the raw config file.
	Config []byte
}

// Bases finds base images. Implementations are safe for concurrent use.
type Bases interface {
	// Base resolves ref for p. It fetches a manifest and a config and no layers.
	Base(ctx context.Context, ref string, p v1.Platform) (Base, error)
}

// What --allow takes.
const (
	AllowInsecure = "security.insecure"
	AllowDevice   = "device"
)

// Options are what a plan depends on besides the Dockerfile.
type Options struct {
	// BuildArgs are the values of --build-arg.
	BuildArgs map[string]string
	// Target is the name or number of the stage to build; empty is the last one.
	Target string
	// Platforms to build for. With none it is BuildPlatform, but an image that exists only for another platform
	// keeps that one in its config.
	Platforms []v1.Platform
	// BuildPlatform is the platform of this machine. Empty: that of the program.
	BuildPlatform v1.Platform
	// Labels are set on the images last.
	Labels map[string]string
	// Contexts are the values of --build-context by name, which may end in "::" and a platform. A value begins with
	// docker-image://, oci-layout:// or target:, is the URL of a repository or a file, or else names a directory.
	Contexts map[string]string
	// NoCacheFilter names stages whose steps are made anew.
	NoCacheFilter []string
	// Hostname is what processes see as the name of the machine; empty is the default of the sandbox.
	Hostname string
	// Hosts are further lines of /etc/hosts for processes: an address, a blank and a name.
	Hosts []string
	// ShmSize is the size of their /dev/shm in bytes; 0 is the default of the sandbox.
	ShmSize int64
	// Allow lists what RUN may be given besides the usual: AllowInsecure, AllowDevice, or AllowDevice, "=" and the name of
	// one device.
	Allow []string
	// Ignore lists the patterns of the context's ignore file, as package patternmatcher takes them. The linter looks whether
	// COPY and ADD name what they leave out.
	Ignore []string
	// Bases is needed when anything begins with an image.
	Bases Bases
	// ContextTime is the time of the build context, which SOURCE_DATE_EPOCH=context asks for: that of its commit, or of the
	// newest file in its archive. Zero is no time, which a directory has, and so is a nil function. It may be
	// called once for each platform.
	ContextTime func(ctx context.Context) (time.Time, error)
	// SourceTime is the time of what op, an HTTP or a Git, fetches, for a SOURCE_DATE_EPOCH that names a stage. It is
	// like ContextTime.
	SourceTime func(ctx context.Context, op Op) (time.Time, error)

	// allStages plans stages that the target does not need as well, which only serves to look at them.
	allStages bool
}
