package solve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// Mounts give processes what no step makes. Implementations are safe for concurrent use.
type Mounts interface {
	// Cache returns the directory of a cache, which is the caller's until it calls release. Sharing is that of
	// plan.Mount: for "locked" it waits until nobody else has the cache, and for "private" the directory is another one
	// as long as somebody has.
	Cache(ctx context.Context, id, sharing string) (dir string, release func() error, err error)
	// Secret returns a secret; an error that wraps fs.ErrNotExist if there is none.
	Secret(ctx context.Context, id string) ([]byte, error)
	// Agent returns the path of a Unix socket at which an ssh agent listens until release is called. It is the caller's
	// own, to change owner and mode of. The error wraps fs.ErrNotExist if there is no such agent.
	Agent(ctx context.Context, id string) (socket string, release func() error, err error)
	// Device returns what a process gets that uses a device; an error that wraps fs.ErrNotExist if there is none.
	Device(ctx context.Context, name string) (Device, error)
}

// SharedCaches are filled from places that machines share.
type SharedCaches interface {
	// Open is called for each cache that a process is about to mount, while its directory is the process's. It may prepare
	// the cache (see sandbox.CacheSharer). Trouble is its own to tell, and leaves the cache as it is.
	Open(ctx context.Context, driver sandbox.Driver, id string, p v1.Platform, dir string)
}

// Device is what a process gets that uses a device.
type Device struct {
	// Nodes are paths of device nodes.
	Nodes []string
	// Env holds KEY=value pairs.
	Env    []string
	Mounts []sandbox.Mount
}

// definedMounts stands for what the mounts of a process are defined to be: their options, the digests of files that are
// at hand, and the definitions of the steps that other files come from. Secrets and agents are only named.
func (s *solver) definedMounts(ctx context.Context, op plan.Run) (string, error) {
	return s.hashMounts(op, func(m plan.Mount) (string, error) {
		if atHand(m.From) {
			return s.digestMount(ctx, m)
		}
		from, err := s.nodes[m.From].defined.wait(ctx)
		return from.files.String(), err
	})
}

// mountedFiles stands for what the mounts of a process really show.
func (s *solver) mountedFiles(ctx context.Context, op plan.Run) (string, error) {
	return s.hashMounts(op, func(m plan.Mount) (string, error) {
		switch {
		case atHand(m.From):
			return s.digestMount(ctx, m)
		case fetches(m.From):
			from, err := s.nodes[m.From].defined.wait(ctx)
			return from.files.String(), err
		}
		st, err := s.nodes[m.From].state.wait(ctx)
		if err != nil {
			return "", err
		}
		if m.Source == "/" || m.Type == plan.MountCache {
			chain, err := st.layers.chainID(ctx)
			return chain.String(), err
		}
		return s.digestMount(ctx, m)
	})
}

// hashMounts hashes mounts; files identifies those that a mount shows, or a cache begins with.
func (s *solver) hashMounts(op plan.Run, files func(plan.Mount) (string, error)) (string, error) {
	k := newKey("mounts")
	for _, m := range op.Mounts {
		k.field("mount", string(m.Type), m.Target, m.Source, m.ID, m.Env, fmt.Sprint(m.ReadOnly, m.Mode, m.UID, m.GID, m.Size))
		if m.Type != plan.MountBind && m.From == nil {
			continue
		}
		id, err := files(m)
		if err != nil {
			return "", err
		}
		k.field("from", id)
	}
	return k.sum().String(), nil
}

// digestMount is the digest of the files that a mount shows, which are read once if they are at hand.
func (s *solver) digestMount(ctx context.Context, m plan.Mount) (string, error) {
	if !atHand(m.From) {
		return s.digestShown(ctx, m)
	}
	shown := shownFiles{m.From, m.Source}
	s.mu.Lock()
	f := s.shown[shown]
	mine := f == nil
	if mine {
		f = newFuture[string]()
		s.shown[shown] = f
	}
	s.mu.Unlock()
	if mine {
		f.set(s.digestShown(ctx, m))
	}
	return f.wait(ctx)
}

func (s *solver) digestShown(ctx context.Context, m plan.Mount) (string, error) {
	return s.digestFiles(ctx, plan.Copy{
		Sources: []plan.Source{{Path: m.Source, From: m.From, Literal: true}},
		Dest:    "/",
	})
}

// noMounts has nothing to give.
type noMounts struct{}

func (noMounts) Cache(context.Context, string, string) (string, func() error, error) {
	return "", nil, errors.New("there is no place for caches")
}
func (noMounts) Secret(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }
func (noMounts) Agent(context.Context, string) (string, func() error, error) {
	return "", nil, fs.ErrNotExist
}
func (noMounts) Device(context.Context, string) (Device, error) { return Device{}, fs.ErrNotExist }
