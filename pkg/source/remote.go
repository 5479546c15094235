package source

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Remote is a tree that has to be fetched. Its methods are safe for concurrent use, and what one of them found out
// or fetched is not asked for again: the first call decides for the whole life of the Remote, its
// errors included.
type Remote interface {
	// Key identifies the contents: two remotes with equal keys have equal trees, but for times of modification. It
	// fetches no more than it needs for that.
	Key(ctx context.Context) (string, error)
	// Tree fetches the files. Root owns them, and they have no extended attributes. The tree can be
	// used until Close.
	Tree(ctx context.Context) (rootfs.Tree, error)
	// Time is that of the contents: of a commit when it was committed, of a file when its server says that it was last
	// modified. It is zero when there is none.
	Time(ctx context.Context) (time.Time, error)
	// Close removes what was fetched, but for what Fetch.Dir keeps. Files of the tree must be closed before.
	Close() error
}

// Secrets finds a secret by its name. One that does not exist is no error.
type Secrets func(ctx context.Context, name string) (secret []byte, ok bool, err error)

// Fetch says how remotes are reached, and where they are kept. The zero value reaches those that need neither
// credentials nor a proxy, and keeps nothing.
type Fetch struct {
	// Secrets is asked for credentials, under the names that BuildKit has for them. Nil has none.
	//
	// For a URL of host these are HTTP_AUTH_TOKEN_<host>, a bearer token, and HTTP_AUTH_HEADER_<host>, the whole value of the
	// Authorization header. For a git remote they are GIT_AUTH_HEADER.<host>, GIT_AUTH_TOKEN.<host>,
	// GIT_AUTH_HEADER and GIT_AUTH_TOKEN, of which the first that exists is used.
	Secrets Secrets
	// SSHAgent is asked, before git goes over ssh, for the socket of the agent that holds the keys. Nil or an empty
	// answer: the keys that ssh finds.
	SSHAgent func(ctx context.Context) (socket string, err error)
	// KnownHosts is the file of the host keys that ssh accepts. Without one it accepts every key, as BuildKit
	// does when it fetches for a Dockerfile.
	KnownHosts string
	// Proxy chooses the proxy of a request; nil means none. Programs usually pass http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// UserAgent names the program, as "name/version"; "gobuild" when empty.
	UserAgent string
	// Stall is how long a transfer may take without a byte; 0 means one minute.
	Stall time.Duration
	// Dir keeps what was fetched for later builds, of which several may use it at once. Empty keeps nothing.
	Dir string
	// TempDir is where files are put that are removed with the Remote. Empty: os.TempDir.
	TempDir string
}

// withDefaults fills in what was left empty.
func (f Fetch) withDefaults() Fetch {
	if f.UserAgent == "" {
		f.UserAgent = "gobuild"
	}
	if f.Stall <= 0 {
		f.Stall = time.Minute
	}
	if f.TempDir == "" {
		f.TempDir = os.TempDir()
	}
	// Commands run in a directory of their own.
	for _, name := range []*string{&f.Dir, &f.TempDir, &f.KnownHosts} {
		if abs, err := filepath.Abs(*name); err == nil && *name != "" {
			*name = abs
		}
	}
	return f
}

// secret returns the first secret that exists, and its number in names.
func (f Fetch) secret(ctx context.Context, names ...string) (value string, which int, err error) {
	if f.Secrets == nil {
		return "", -1, nil
	}
	for i, name := range names {
		b, ok, err := f.Secrets(ctx, name)
		if err != nil {
			return "", -1, err
		}
		if ok {
			return string(b), i, nil
		}
	}
	return "", -1, nil
}
