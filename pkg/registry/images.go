package registry

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

const (
	// maxImages is how many images of one index are looked at.
	maxImages = 64
	// parallelImages is how many of them are fetched at a time.
	parallelImages = 8
)

// Images returns the image at exactly ref or, when that is an index, those of all platforms, without mirrors: those that
// run on first come first, the others follow in the order of the index. What is no image to run, such as a signature or an
// attestation, is left out. It is for those who look for something that any of the images may have.
//
// The configs are fetched with the manifests, and layers are as with [Client.Image]. Of an index some images may be there and
// others not: then the error says why, and wraps one for each of them. Close ends it. Errors are of type [*Error]; nothing at ref gives one
// for which [NotFound] holds.
func (c *Client) Images(ctx context.Context, ref string, d Direction, first v1.Platform) ([]v1.Image, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.life, func() { cancel(ErrClosed) })() //nolint:contextcheck // it ends with the client, too
	s, err := c.session(ctx, r.Context(), d, "")
	var images []v1.Image
	if err == nil {
		g := gathering{client: c, s: s, first: first}
		images, err = g.images(ctx, at(s.repo, r), 0)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		err = c.fail("pull image", ref, r.Context(), c.who(r, d), err)
	}
	return images, err
}

// gathering collects the images of one repository.
type gathering struct {
	client *Client
	s      *session
	first  v1.Platform
}

func (g *gathering) images(ctx context.Context, ref name.Reference, depth int) ([]v1.Image, error) {
	puller, err := g.s.puller()
	if err != nil {
		return nil, err
	}
	desc, err := puller.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	switch kind := kindOf(desc); {
	case kind.IsImage():
		img, err := newImage(g.client, g.s, ref, desc.Manifest, kind)
		if err != nil {
			return nil, err
		}
		m, ok := img.(*mountable)
		if !ok || !m.core.parsed.Config.MediaType.IsConfig() {
			return nil, nil
		}
		if _, err := m.core.readConfig(ctx); err != nil {
			return nil, err
		}
		return []v1.Image{img}, nil
	case kind.IsIndex() && depth < maxNesting:
		index, err := v1.ParseIndexManifest(bytes.NewReader(desc.Manifest))
		if err != nil {
			return nil, fmt.Errorf("parse index: %w", err)
		}
		return g.all(ctx, index, depth+1)
	default:
		return nil, nil
	}
}

// all fetches the images of an index.
func (g *gathering) all(ctx context.Context, index *v1.IndexManifest, depth int) ([]v1.Image, error) {
	list := g.order(index)
	images := make([][]v1.Image, len(list))
	errs := make([]error, len(list))
	var group errgroup.Group
	group.SetLimit(parallelImages)
	for i, desc := range list {
		group.Go(func() error {
			images[i], errs[i] = g.images(ctx, g.s.repo.Digest(desc.Digest.String()), depth)
			if errs[i] != nil {
				errs[i] = fmt.Errorf("manifest %s: %w", desc.Digest, errs[i])
			}
			return nil
		})
	}
	_ = group.Wait() // errors are in errs
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return slices.Concat(images...), nil
	}
	return slices.Concat(images...), all(errs)
}

// order lists what is to be fetched of an index.
func (g *gathering) order(index *v1.IndexManifest) []v1.Descriptor {
	list := Choose(index, g.first)
	known := map[v1.Hash]bool{}
	for _, d := range list {
		known[d.Digest] = true
	}
	for _, d := range index.Manifests {
		// Attestations call their platform unknown.
		attests := d.Platform != nil && d.Platform.OS == "unknown"
		if !known[d.Digest] && !attests && (d.MediaType.IsImage() || d.MediaType.IsIndex()) {
			known[d.Digest] = true
			list = append(list, d)
		}
	}
	return list[:min(len(list), maxImages)]
}
