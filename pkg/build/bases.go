package build

import (
	"context"
	"fmt"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/registry"
)

// layoutPrefix begins references to images in an OCI layout on disk: oci-layout://path[:tag][@digest].
const layoutPrefix = "oci-layout://"

// bases finds base images, each once for a whole build: planning reads their configs, and solving their layers.
// It implements plan.Bases.
type bases struct {
	client *registry.Client
	store  *local.Store // nil while only planning
	dirs   []string     // OCI layouts in which layers may be

	mu    sync.Mutex
	found map[baseKey]func() (v1.Image, error)
}

type baseKey struct{ ref, platform string }

func newBases(c *registry.Client, s *local.Store, dirs []string) *bases {
	return &bases{client: c, store: s, dirs: dirs, found: map[baseKey]func() (v1.Image, error){}}
}

// Base implements plan.Bases.
func (b *bases) Base(ctx context.Context, ref string, p v1.Platform) (plan.Base, error) {
	img, err := b.image(ctx, ref, p)
	if err != nil {
		return plan.Base{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return plan.Base{}, fmt.Errorf("get digest of %q: %w", ref, err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return plan.Base{}, fmt.Errorf("get config of %q: %w", ref, err)
	}
	return plan.Base{Digest: digest, Config: config}, nil
}

// image resolves ref for p, the first time that it is asked for.
func (b *bases) image(ctx context.Context, ref string, p v1.Platform) (v1.Image, error) {
	key := baseKey{ref, p.String()}
	b.mu.Lock()
	find := b.found[key]
	if find == nil {
		find = sync.OnceValues(func() (v1.Image, error) {
			if path, ok := strings.CutPrefix(ref, layoutPrefix); ok {
				return push.OpenOCILayout(path, p)
			}
			return b.client.Image(ctx, ref, p)
		})
		b.found[key] = find
	}
	b.mu.Unlock()
	return find()
}

// pull returns the image of a step, with layers whose bytes are kept in the store once somebody needs them.
func (b *bases) pull(ctx context.Context, op plan.Pull, p v1.Platform) (v1.Image, error) {
	img, err := b.image(ctx, op.Ref, p)
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("list layers of %q: %w", op.Ref, err)
	}
	for i, l := range layers {
		layers[i] = b.through(l)
	}
	return &storedImage{Image: img, layers: layers}, nil
}

// through lets a layer's bytes pass through the store. A layer that a registry can mount into another
// repository of its own stays one.
func (b *bases) through(l v1.Layer) v1.Layer {
	return remount(l, func(l v1.Layer) v1.Layer {
		if len(b.dirs) > 0 {
			l = &nearby{l, b.dirs}
		}
		return b.store.Through(l)
	})
}

// whole is through for a layer of a cache, of which nothing is used before all of it is what it should be.
func (b *bases) whole(l v1.Layer) v1.Layer { return remount(l, b.store.Whole) }

func remount(l v1.Layer, f func(v1.Layer) v1.Layer) v1.Layer {
	if m, ok := l.(*remote.MountableLayer); ok {
		return &remote.MountableLayer{Layer: f(m.Layer), Reference: m.Reference}
	}
	return f(l)
}

// storedImage is an image with other layer values for the same layers.
type storedImage struct {
	v1.Image
	layers []v1.Layer
}

func (i *storedImage) Layers() ([]v1.Layer, error) { return i.layers, nil }
