package solve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// mounted is what a process gets by its mounts and devices, until they are released.
type mounted struct {
	solver   *solver
	platform v1.Platform
	mounts   []sandbox.Mount
	// env are variables that hold secrets, or go with devices.
	env     []string
	secrets [][]byte
	devices []string
	caches  map[string]string // directories by ID
	undo    []func() error
}

// release gives back what was taken for the process. It may be called when not everything was.
func (m *mounted) release() error {
	var err error
	for _, undo := range slices.Backward(m.undo) {
		err = errors.Join(err, undo())
	}
	m.undo = nil
	return err
}

// apply gives p what was made ready.
func (m *mounted) apply(p *sandbox.Process) {
	p.Mounts, p.Devices = m.mounts, m.devices
	p.Env = append(slices.Clip(p.Env), m.env...)
}

// mount makes everything ready that a process is to see. The caller releases the result, also after an error.
func (s *solver) mount(ctx context.Context, op plan.Run, p v1.Platform) (*mounted, error) {
	m := &mounted{solver: s, platform: p, caches: map[string]string{}}
	if err := m.takeDevices(ctx, op); err != nil {
		return m, err
	}
	if err := m.takeCaches(ctx, op); err != nil {
		return m, err
	}
	for _, mount := range op.Mounts {
		source, err := m.source(ctx, mount)
		if err != nil {
			return m, err
		}
		if source != nil {
			m.mounts = append(m.mounts, sandbox.Mount{Target: mount.Target, ReadOnly: mount.ReadOnly, Source: source})
		}
	}
	return m, nil
}

func (m *mounted) takeDevices(ctx context.Context, op plan.Run) error {
	for _, d := range op.Devices {
		device, err := m.solver.o.Mounts.Device(ctx, d.Name)
		if errors.Is(err, fs.ErrNotExist) && !d.Required {
			continue
		}
		if err != nil {
			return fmt.Errorf("find device %s: %w", d.Name, err)
		}
		m.devices = append(m.devices, device.Nodes...)
		m.env = append(m.env, device.Env...)
		m.mounts = append(m.mounts, device.Mounts...)
	}
	return nil
}

// takeCaches takes all caches of a process, each once, in an order that is the same for all processes, so that two that
// need the same locked ones do not wait for each other.
func (m *mounted) takeCaches(ctx context.Context, op plan.Run) error {
	sharing := map[string]string{}
	var ids []string
	for _, mount := range op.Mounts {
		if mount.Type != plan.MountCache {
			continue
		}
		before, known := sharing[mount.ID]
		if !known {
			ids = append(ids, mount.ID)
		}
		sharing[mount.ID] = stricter(before, mount.Sharing)
	}
	slices.Sort(ids)
	for _, id := range ids {
		dir, release, err := m.solver.o.Mounts.Cache(ctx, id, sharing[id])
		if err != nil {
			return fmt.Errorf("open cache %q: %w", id, err)
		}
		m.caches[id] = dir
		m.undo = append(m.undo, release)
	}
	return nil
}

// stricter is the one of two ways to share a cache that shares less.
func stricter(a, b string) string {
	for _, sharing := range []string{"locked", "private"} {
		if a == sharing || b == sharing {
			return sharing
		}
	}
	return b
}

// source is what is mounted; nil for what is optional and not there, or only a variable.
func (m *mounted) source(ctx context.Context, mount plan.Mount) (sandbox.MountSource, error) {
	switch mount.Type {
	case plan.MountBind:
		return m.bind(ctx, mount)
	case plan.MountCache:
		return m.cache(ctx, mount)
	case plan.MountTmpfs:
		return sandbox.TmpfsSource{Size: mount.Size}, nil
	case plan.MountSecret:
		return m.secret(ctx, mount)
	case plan.MountSSH:
		return m.agent(ctx, mount)
	}
	return nil, fmt.Errorf("unknown mount type %q", mount.Type)
}

func (m *mounted) secret(ctx context.Context, mount plan.Mount) (sandbox.MountSource, error) {
	id := mount.ID
	data, err := m.solver.o.Mounts.Secret(ctx, id)
	switch {
	case errors.Is(err, fs.ErrNotExist) && mount.Required:
		return nil, fmt.Errorf("secret %s: not found: give it with --secret id=%s,src=FILE or --secret id=%s,env=VARIABLE", id, id, id)
	case errors.Is(err, fs.ErrNotExist):
		if mount.Env != "" { // BuildKit sets the variable whatever it is to hold
			m.env = append(m.env, mount.Env+"=")
		}
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read secret %s: %w", id, err)
	}
	m.secrets = append(m.secrets, data)
	if mount.Env != "" {
		m.env = append(m.env, mount.Env+"="+string(data))
	}
	if mount.Target == "" {
		return nil, nil
	}
	return sandbox.FileSource{Data: data, UID: mount.UID, GID: mount.GID, Mode: mount.Mode}, nil
}

func (m *mounted) agent(ctx context.Context, mount plan.Mount) (sandbox.MountSource, error) {
	socket, release, err := m.solver.o.Mounts.Agent(ctx, mount.ID)
	switch {
	case errors.Is(err, fs.ErrNotExist) && mount.Required:
		return nil, fmt.Errorf("ssh agent %s: not found: give it with --ssh %s", mount.ID, mount.ID)
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("open ssh agent %s: %w", mount.ID, err)
	}
	m.undo = append(m.undo, release)
	return sandbox.SocketSource{Path: socket, UID: mount.UID, GID: mount.GID, Mode: mount.Mode}, nil
}

func (m *mounted) cache(ctx context.Context, mount plan.Mount) (sandbox.MountSource, error) {
	c := sandbox.CacheSource{
		Dir: m.caches[mount.ID], Path: mount.Source, UID: mount.UID, GID: mount.GID, Mode: mount.Mode,
	}
	if err := m.solver.openCache(ctx, mount.ID, m.platform, c.Dir); err != nil || mount.From == nil {
		return c, err
	}
	prepared, err := m.solver.roots.cachePrepared(ctx, c.Dir)
	if prepared || err != nil {
		return c, err
	}
	mount.Source, mount.ReadOnly = "/", true
	seed, err := m.bind(ctx, mount)
	c.Seed = seed
	return c, err
}

// openCache lets a cache be filled that others have.
func (s *solver) openCache(ctx context.Context, id string, p v1.Platform, dir string) error {
	if s.o.Caches == nil {
		return nil
	}
	driver, err := s.roots.get(ctx)
	if err != nil {
		return err
	}
	s.o.Caches.Open(ctx, driver, id, p, dir)
	return context.Cause(ctx)
}

// bind opens a root that has the files of a bind mount. One that may be written to is the process's own, and what it
// writes goes with it.
func (m *mounted) bind(ctx context.Context, mount plan.Mount) (b sandbox.BindSource, err error) {
	s := m.solver
	var layers *stack
	b.Path = mount.Source
	if mount.From == nil || fetches(mount.From) {
		layers, err = s.mountLayers(ctx, mount)
		b.Path = "/" + mountedName
	} else {
		var st state
		st, err = s.nodes[mount.From].state.wait(ctx)
		layers = st.layers
	}
	if err != nil {
		return b, err
	}
	if mount.ReadOnly {
		b.Root, err = s.roots.shared(ctx, layers)
		return b, err
	}
	if b.Root, err = s.roots.open(ctx, layers); err == nil {
		m.undo = append(m.undo, b.Root.Close)
	}
	return b, err
}
