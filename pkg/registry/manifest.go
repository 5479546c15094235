package registry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Manifest returns the manifest of the image at exactly ref, in one request, with its bytes in Data: without mirrors and
// without a choice of platform, so an index is an error. It is for what programs keep in a registry, such as cache
// entries. d says by which rules the registry is spoken to. A manifest that does not exist gives an error for which
// [NotFound] holds. Errors are of type [*Error].
func (c *Client) Manifest(ctx context.Context, ref string, d Direction) (v1.Descriptor, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	desc, err := c.manifest(ctx, r, d)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return v1.Descriptor{}, c.fail("get manifest", ref, r.Context(), c.who(r, d), err)
	}
	return desc, nil
}

func (c *Client) manifest(ctx context.Context, ref name.Reference, d Direction) (v1.Descriptor, error) {
	s, err := c.session(ctx, ref.Context(), d, "")
	if err != nil {
		return v1.Descriptor{}, err
	}
	puller, err := s.puller()
	if err != nil {
		return v1.Descriptor{}, err
	}
	got, err := puller.Get(ctx, at(s.repo, ref))
	if err != nil {
		return v1.Descriptor{}, err
	}
	kind := kindOf(got)
	if !kind.IsImage() {
		return v1.Descriptor{}, fmt.Errorf("not an image's manifest: its media type is %q", kind)
	}
	desc := got.Descriptor
	desc.MediaType, desc.Data = kind, got.Manifest
	return desc, nil
}

// Layer returns the blob desc of the repository of ref as a layer, without asking the registry for anything but, the first
// time, the right to read there. The layer is read in the lifetime of the client, and is like those of [Client.Image]:
// verified, resumed, and mountable.
func (c *Client) Layer(ctx context.Context, ref string, d Direction, desc v1.Descriptor, diffID v1.Hash) (v1.Layer, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	s, err := c.session(ctx, r.Context(), d, "")
	if err != nil {
		return nil, c.fail("pull layer from", ref, r.Context(), c.who(r, d), err)
	}
	l, err := partial.CompressedToLayer(&blob{client: c, s: s, desc: desc, diffID: func() (v1.Hash, error) { return diffID, nil }})
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: l, Reference: at(s.repo, r)}, nil
}

// Tags lists the tags of the repository of ref, which is none when the registry does not know the repository.
func (c *Client) Tags(ctx context.Context, ref string, d Direction) ([]string, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	s, err := c.session(ctx, r.Context(), d, "")
	if err != nil {
		return nil, c.fail("list tags of", r.Context().Name(), r.Context(), c.who(r, d), err)
	}
	puller, err := s.puller()
	if err != nil {
		return nil, err
	}
	tags, err := puller.List(ctx, s.repo)
	if err != nil && Status(err) != http.StatusNotFound {
		return nil, c.fail("list tags of", r.Context().Name(), r.Context(), c.who(r, d), err)
	}
	return tags, nil
}

// DeleteManifest removes the manifest at ref, which names it by digest: registries take no tag there. One that is gone
// already is no error. What becomes of its blobs is up to the registry.
func (c *Client) DeleteManifest(ctx context.Context, ref string) error {
	r, err := name.NewDigest(ref, name.WeakValidation)
	if err != nil {
		return fmt.Errorf("parse reference with digest %q: %w", ref, err)
	}
	err = c.deleteManifest(ctx, r)
	if err == nil || Status(err) == http.StatusNotFound {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if Status(err) == http.StatusMethodNotAllowed {
		err = fmt.Errorf("the registry does not let clients delete; use its own rules for retention: %w", err)
	}
	return c.fail("delete manifest", ref, r.Context(), c.who(r, Push), err)
}

func (c *Client) deleteManifest(ctx context.Context, ref name.Digest) error {
	s, err := c.session(ctx, ref.Context(), Push, "")
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.url("manifests/"+ref.DigestStr()).String(), nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return transport.CheckError(resp, http.StatusOK, http.StatusAccepted)
}

// UnknownRepository reports whether err is a registry's saying that it has no such repository, not only that
// something is not in it.
func UnknownRepository(err error) bool { return saysCode(err, transport.NameUnknownErrorCode) }
