package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gobuild-dev/gobuild/internal/solve"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/cdi"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sshagent"
)

// given is what the builder gives to processes and to sources that ask for it. It implements solve.Mounts.
type given struct {
	o     Options
	store *local.Store // nil while only planning
}

// Cache implements solve.Mounts.
func (g *given) Cache(ctx context.Context, id, sharing string) (string, func() error, error) {
	return g.store.Mount(ctx, id, sharing)
}

// Secret implements solve.Mounts.
func (g *given) Secret(ctx context.Context, id string) ([]byte, error) { return g.o.secret(ctx, id) }

// Agent implements solve.Mounts.
func (g *given) Agent(ctx context.Context, id string) (string, func() error, error) {
	paths, ok := g.o.SSH[id]
	if !ok {
		return "", nil, fmt.Errorf("ssh agent %s: %w", id, fs.ErrNotExist)
	}
	agent, err := sshagent.Open(paths...)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New(err.Error()) // other than an agent that was not given
	}
	if err != nil {
		return "", nil, err
	}
	s, err := agent.Serve(ctx, g.tempDir())
	if err != nil {
		return "", nil, err
	}
	return s.Socket, s.Close, nil
}

func (g *given) tempDir() string {
	if g.store == nil {
		return os.TempDir()
	}
	return g.store.TempDir()
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
