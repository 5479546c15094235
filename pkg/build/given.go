package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/gobuild-dev/gobuild/internal/solve"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/cdi"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sshagent"
)

// given is what the builder gives to processes that ask for it. It implements solve.Mounts.
type given struct {
	o     Options
	store *local.Store

	mu     sync.Mutex
	agents map[string]*sshagent.Server
}

func newGiven(o Options, store *local.Store) *given {
	return &given{o: o, store: store, agents: map[string]*sshagent.Server{}}
}

// Cache implements solve.Mounts.
func (g *given) Cache(ctx context.Context, id, sharing string) (string, func() error, error) {
	return g.store.Mount(ctx, id, sharing)
}

// Secret implements solve.Mounts.
func (g *given) Secret(ctx context.Context, id string) ([]byte, error) { return g.o.secret(ctx, id) }

// Agent implements solve.Mounts. An agent is served from when it is first asked for.
func (g *given) Agent(_ context.Context, id string) (string, error) {
	paths, ok := g.o.SSH[id]
	if !ok {
		return "", fmt.Errorf("ssh agent %s: %w", id, fs.ErrNotExist)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.agents[id]; s != nil {
		return s.Socket, nil
	}
	agent, err := sshagent.Open(paths...)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New(err.Error()) // other than an agent that was not given
	}
	if err != nil {
		return "", err
	}
	s, err := agent.Serve(g.store.TempDir())
	if err != nil {
		return "", err
	}
	g.agents[id] = s
	return s.Socket, nil
}

// Device implements solve.Mounts.
func (g *given) Device(_ context.Context, name string) (solve.Device, error) {
	dirs := g.o.DeviceDirs
	if dirs == nil {
		dirs = cdi.DefaultDirs()
	}
	found, err := cdi.Find(dirs, name)
	if err != nil {
		return solve.Device{}, err
	}
	d := solve.Device{Nodes: found.Nodes, Env: found.Env}
	for _, m := range found.Mounts {
		d.Mounts = append(d.Mounts, sandbox.Mount{Target: m.Target, ReadOnly: m.ReadOnly, Source: sandbox.HostSource{Path: m.Source}})
	}
	return d, nil
}

// Close ends the agents.
func (g *given) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var err error
	for _, s := range g.agents {
		err = errors.Join(err, s.Close())
	}
	return err
}
