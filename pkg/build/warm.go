package build

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// maxFetches is how many layers are fetched at a time.
const maxFetches = 4

// WarmOptions say which images to fetch before a build needs them.
type WarmOptions struct {
	// Options say what would be built, if FromDockerfile is set, and where things are: WorkDir, Registry, Platform.
	Options
	// FromDockerfile fetches the images that the build would begin with or copy from.
	FromDockerfile bool
	// Images are further references, for Platform.
	Images []string
	// Layout is the directory of an OCI layout that the images go to; the work directory when empty.
	Layout string
}

// Warmed is an image that is at hand now.
type Warmed struct {
	Ref string
	// Digest is that of the manifest for the platform.
	Digest v1.Hash
}

// Warm fetches images, so that builds that begin with them find their layers in the work directory, or by
// [Options.BaseDirs]. What is there already is not fetched again, by whatever digest the image was named.
func Warm(ctx context.Context, o WarmOptions) (_ []Warmed, err error) {
	if o.Options, err = o.withDefaults(); err != nil {
		return nil, err
	}
	client, done, err := o.client()
	if err != nil {
		return nil, err
	}
	defer done()
	store, err := local.Open(ctx, o.WorkDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	pulls, err := o.pulls(ctx)
	if err != nil {
		return nil, err
	}
	b := newBases(client, store, o.BaseDirs)
	var list []Warmed
	for _, p := range pulls {
		img, err := b.pull(ctx, plan.Pull{Ref: p.ref}, p.platform)
		if err != nil {
			return list, err
		}
		digest, err := img.Digest()
		if err != nil {
			return list, err
		}
		if o.Layout != "" {
			_, err = push.OCILayout(o.Layout, p.ref).Export(ctx, push.Artifact{Image: img, Platform: p.platform})
		} else {
			err = fetchLayers(ctx, img, store)
		}
		if err != nil {
			return list, fmt.Errorf("fetch %s: %w", p.ref, err)
		}
		list = append(list, Warmed{Ref: p.ref, Digest: digest})
	}
	return list, nil
}

// pulled is an image for a platform.
type pulled struct {
	ref      string
	platform v1.Platform
}

// pulls lists what is to be fetched, each image once.
func (o WarmOptions) pulls(ctx context.Context) ([]pulled, error) {
	platform := o.Platform
	if platform.OS == "" {
		platform = HostPlatform()
	}
	var list []pulled
	for _, ref := range o.Images {
		list = append(list, pulled{ref, platform})
	}
	if !o.FromDockerfile {
		return list, nil
	}
	p, err := Plan(ctx, o.Options)
	if err != nil {
		return nil, err
	}
	for _, step := range p.Steps {
		if op, ok := step.Op.(plan.Pull); ok {
			list = append(list, pulled{op.Ref, step.Platform})
		}
	}
	return list, nil
}

// fetchLayers gets all layers of img into the store, with their indexes.
func fetchLayers(ctx context.Context, img v1.Image, store *local.Store) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	g, together := errgroup.WithContext(ctx)
	g.SetLimit(maxFetches)
	for _, l := range layers {
		g.Go(func() error {
			rc, err := l.Compressed()
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, &reader{together, rc})
			return errors.Join(err, rc.Close())
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	tree, err := rootfs.Of(ctx, layers, rootfs.Options{Indexes: store, TempDir: store.TempDir()})
	if err != nil {
		return err
	}
	return tree.Close()
}

// reader reads until ctx is done.
type reader struct {
	ctx context.Context //nolint:containedctx // it lives for one call
	io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}
