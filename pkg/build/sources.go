package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/internal/solve"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// keepGitDirArg is the build argument that keeps .git in a context that is a git repository.
const keepGitDirArg = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"

// defaultAgent is the id of the agent that git over ssh uses.
const defaultAgent = "default"

// sources are the main context and what steps begin with. Close removes what was fetched for them.
type sources struct {
	given *given
	fetch source.Fetch

	mu     sync.Mutex
	agent  *string // its socket, once it was asked for
	opened []func() error
}

// newSources returns sources that are fetched with what the user gave, and through the work directory if store is not nil.
func newSources(o Options, store *local.Store) *sources {
	s := &sources{given: &given{o, store}, fetch: o.Fetch}
	s.fetch.Secrets = s.secret
	if o.Fetch.SSHAgent == nil {
		s.fetch.SSHAgent = s.sshAgent
	}
	if store != nil {
		s.fetch.TempDir = store.TempDir()
		if o.Fetch.Dir == "" {
			s.fetch.Dir = store.SourcesDir()
		}
	}
	return s
}

// secret finds a secret of the build, or else one that is for fetching alone.
func (s *sources) secret(ctx context.Context, name string) ([]byte, bool, error) {
	value, err := s.given.Secret(ctx, name)
	switch more := s.given.o.Fetch.Secrets; {
	case !errors.Is(err, fs.ErrNotExist):
		return value, err == nil, err
	case more != nil:
		return more(ctx, name)
	}
	return nil, false, nil
}

// sshAgent serves the agent that git over ssh uses, if there is one.
func (s *sources) sshAgent(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agent != nil {
		return *s.agent, nil
	}
	socket, end, err := s.given.Agent(ctx, defaultAgent)
	switch {
	case err == nil:
		s.opened = append(s.opened, end)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	s.agent = &socket
	return socket, nil
}

// read opens the main context and reads its Dockerfile. Mistakes in it are left to planning, which meets them after the
// warnings that come before.
func (s *sources) read(ctx context.Context) (*source.Context, *dockerfile.File, error) {
	src, err := s.context(ctx)
	if err != nil {
		return nil, nil, err
	}
	file, _ := dockerfile.Parse(src.DockerfilePath, src.Dockerfile)
	return src, file, nil
}

// context opens the main context.
func (s *sources) context(ctx context.Context) (*source.Context, error) {
	o := s.given.o
	keep, _ := strconv.ParseBool(o.BuildArgs[keepGitDirArg]) // as BuildKit has it, what is no boolean is false
	src, err := source.Open(ctx, o.Context, source.Options{
		Dockerfile:    o.Dockerfile,
		SubDir:        o.ContextDir,
		Stdin:         o.Stdin,
		Fetch:         s.fetch,
		KeepGitDir:    keep,
		GitCommitTime: o.BuildArgs["SOURCE_DATE_EPOCH"] != "" || !o.Epoch.IsZero(),
		GitScheme:     o.GitScheme,
	})
	if err != nil {
		return nil, err
	}
	s.close(src.Close)
	return src, nil
}

// close lets Close call end.
func (s *sources) close(end func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, end)
}

// open implements solve.Options.Source.
func (s *sources) open(_ context.Context, op plan.Op) (solve.Source, error) {
	if op, ok := op.(plan.Local); ok {
		return s.local(op)
	}
	return s.remote(op)
}

// time implements plan.Options.SourceTime.
func (s *sources) time(ctx context.Context, op plan.Op) (time.Time, error) {
	r, err := s.remote(op)
	if err != nil {
		return time.Time{}, err
	}
	return r.Time(ctx)
}

// remote returns what a step fetches.
func (s *sources) remote(op plan.Op) (source.Remote, error) {
	var r source.Remote
	var err error
	switch op := op.(type) {
	case plan.HTTP:
		r, err = source.NewHTTP(source.HTTPOptions(op), s.fetch)
	case plan.Git:
		r, err = source.NewGit(source.GitOptions(op), s.fetch)
	default:
		err = fmt.Errorf("fetch files: %T has none", op)
	}
	if err != nil {
		return nil, err
	}
	s.close(r.Close)
	return r, nil
}

func (s *sources) local(op plan.Local) (solve.Source, error) {
	dir, ok := s.given.o.Contexts[op.Context]
	if !ok {
		return nil, fmt.Errorf("find context: there is none called %q", op.Context)
	}
	tree, err := source.Directory(dir)
	if err != nil {
		return nil, err
	}
	return folder{tree}, nil
}

// Close removes what was fetched.
func (s *sources) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, end := range slices.Backward(s.opened) { // the agent outlives those who use it
		err = errors.Join(err, end())
	}
	return err
}

// folder is the solve.Source of files that are at hand.
type folder struct{ tree rootfs.Tree }

// Key implements solve.Source.
func (f folder) Key(context.Context) (string, error) { return "", nil }

// Tree implements solve.Source.
func (f folder) Tree(context.Context) (rootfs.Tree, error) { return f.tree, nil }
