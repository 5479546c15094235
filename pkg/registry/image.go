package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxConfig bounds what is read of a config, which is kept in memory.
const maxConfig = 16 << 20

// maxNesting bounds indexes within indexes.
const maxNesting = 3

// Image resolves ref to the image for platform p, by the mirrors first. An index is searched for
// the best match (see [PlatformError]); an image that is not in an index is returned whatever platform its config
// says. Errors are of type [*Error].
//
// Only the manifests are read. Config and layers are fetched on use, in the lifetime of the client and not of ctx,
// so ctx may end first. Layers verify their digest, resume where the connection breaks, and are
// [*remote.MountableLayer]: pushed to the registry they come from, they are mounted and not moved.
//
// Nothing is remembered: a tag that moves between two calls gives two images.
func (c *Client) Image(ctx context.Context, ref string, p v1.Platform) (v1.Image, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	sources, err := c.rules.sources(r)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, src := range sources {
		img, err := c.image(ctx, src, Pull, &p, 0)
		if err == nil {
			return img, nil
		}
		if ctx.Err() != nil {
			return nil, &Error{Op: "pull image", Ref: ref, Err: context.Cause(ctx)}
		}
		if src != r {
			err = fmt.Errorf("mirror %s: %w", src.Context().RegistryStr(), err)
			c.warn("pull image %q: %v", ref, err)
		}
		failures = append(failures, err)
	}
	last := sources[len(sources)-1]
	if last != r {
		return nil, &Error{Op: "pull image", Ref: ref, Err: fmt.Errorf("not on any mirror: %w", all(failures))}
	}
	// The origin tells best; mirrors had their warnings.
	return nil, c.fail("pull image", ref, r.Context(), c.who(r, Pull), failures[len(failures)-1])
}

// all is errors.Join on one line.
func all(errs []error) error {
	err := errs[0]
	for _, e := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// Lookup returns the image at exactly ref, without mirrors and without a choice of platform: an index is
// an error. It is for what the program itself has pushed, such as cache entries. Layers are as with [Client.Image].
// An image that does not exist gives an error for which [NotFound] holds.
func (c *Client) Lookup(ctx context.Context, ref string) (v1.Image, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	img, err := c.image(ctx, r, Push, nil, 0)
	if err != nil {
		return nil, c.fail("pull image", ref, r.Context(), c.who(r, Push), err)
	}
	return img, nil
}

// Head returns the descriptor of what ref names now, by the mirrors first, in one request. Some registries do not
// count it against their limits.
func (c *Client) Head(ctx context.Context, ref string) (*v1.Descriptor, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	sources, err := c.rules.sources(r)
	if err != nil {
		return nil, err
	}
	var last error
	for _, src := range sources {
		var d *v1.Descriptor
		if d, last = c.head(ctx, src, Pull); last == nil || ctx.Err() != nil {
			return d, last
		}
	}
	src := sources[len(sources)-1]
	return nil, c.fail("look up image", ref, src.Context(), c.who(src, Pull), last)
}

func (c *Client) head(ctx context.Context, ref name.Reference, d Direction) (*v1.Descriptor, error) {
	s, err := c.session(ctx, ref.Context(), d, "")
	if err != nil {
		return nil, err
	}
	puller, err := s.puller()
	if err != nil {
		return nil, err
	}
	return puller.Head(ctx, at(s.repo, ref))
}

// who is the identity of the session with ref, when it was opened.
func (c *Client) who(ref name.Reference, d Direction) identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sessions[sessionKey(ref.Context(), d, "")]; s != nil {
		return s.who
	}
	return identity{}
}

// image fetches the manifest at ref and, when p is not nil, goes down to that of p.
func (c *Client) image(ctx context.Context, ref name.Reference, d Direction, p *v1.Platform, depth int) (v1.Image, error) {
	s, err := c.session(ctx, ref.Context(), d, "")
	if err != nil {
		return nil, err
	}
	puller, err := s.puller()
	if err != nil {
		return nil, err
	}
	desc, err := puller.Get(ctx, at(s.repo, ref))
	if err != nil {
		return nil, err
	}
	switch kind := kindOf(desc); {
	case kind.IsSchema1():
		return nil, fmt.Errorf("manifest is of Docker's schema 1, which is no longer supported: push the image again with a current tool")
	case kind.IsIndex() && p == nil:
		return nil, fmt.Errorf("an index where an image was expected: %s", kind)
	case kind.IsIndex():
		return c.fromIndex(ctx, s, desc.Manifest, d, *p, depth)
	case kind.IsImage():
		return newImage(c, s, ref, desc.Manifest, kind)
	default:
		return nil, fmt.Errorf("not a container image: its media type is %q", kind)
	}
}

// kindOf is the media type of a manifest. Static file servers do not say it, so the manifest's own word
// is taken then, or its shape.
func kindOf(desc *remote.Descriptor) types.MediaType {
	if desc.MediaType.IsImage() || desc.MediaType.IsIndex() || desc.MediaType.IsSchema1() {
		return desc.MediaType
	}
	var m struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     types.MediaType   `json:"mediaType"`
		Config        *v1.Descriptor    `json:"config"`
		Manifests     []json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(desc.Manifest, &m) != nil {
		return desc.MediaType
	}
	switch {
	case m.MediaType != "":
		return m.MediaType
	case m.SchemaVersion == 1:
		return types.DockerManifestSchema1
	case m.Manifests != nil:
		return types.OCIImageIndex
	case m.Config != nil:
		return types.OCIManifestSchema1
	}
	return desc.MediaType
}

func (c *Client) fromIndex(ctx context.Context, s *session, raw []byte, d Direction, p v1.Platform, depth int) (v1.Image, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("parse index: %w", err)
	}
	if depth >= maxNesting {
		return nil, errors.New("indexes are nested too deep")
	}
	for _, desc := range Choose(index, p) {
		img, err := c.image(ctx, s.repo.Digest(desc.Digest.String()), d, &p, depth+1)
		if err != nil {
			var none *PlatformError
			if errors.As(err, &none) {
				continue
			}
			return nil, fmt.Errorf("manifest %s of platform %s: %w", desc.Digest, platforms.Format(spec(p)), err)
		}
		if desc.Platform == nil {
			cfg, err := img.ConfigFile()
			if err != nil {
				return nil, err
			}
			if !platforms.Only(spec(p)).Match(platforms.Normalize(spec(*cfg.Platform()))) {
				continue
			}
		}
		return img, nil
	}
	return nil, NewPlatformError(index, p)
}

// remoteImage is the image behind a manifest. It implements partial.CompressedImageCore.
type remoteImage struct {
	client *Client
	s      *session
	raw    []byte
	parsed *v1.Manifest
	kind   types.MediaType

	mu     sync.Mutex
	config []byte
}

func newImage(c *Client, s *session, ref name.Reference, raw []byte, kind types.MediaType) (v1.Image, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	core := &remoteImage{client: c, s: s, raw: raw, parsed: m, kind: kind}
	img, err := partial.CompressedToImage(core)
	if err != nil {
		return nil, err
	}
	return &mountable{Image: img, core: core, ref: at(s.repo, ref)}, nil
}

func (r *remoteImage) MediaType() (types.MediaType, error) { return r.kind, nil }
func (r *remoteImage) RawManifest() ([]byte, error)        { return r.raw, nil }

// RawConfigFile fetches the config on first use. A failure is not remembered.
func (r *remoteImage) RawConfigFile() ([]byte, error) { return r.readConfig(r.client.life) }

// readConfig is RawConfigFile in the lifetime of ctx.
func (r *remoteImage) readConfig(ctx context.Context) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.config != nil {
		return r.config, nil
	}
	desc := r.parsed.Config
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("config %s has %d bytes, more than %d", desc.Digest, desc.Size, maxConfig)
	}
	rc, err := r.blob(desc).open(ctx)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	r.config = b
	return b, nil
}

// LayerByDigest implements partial.CompressedImageCore.
func (r *remoteImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	desc, err := partial.BlobDescriptor(withManifest{r}, h)
	if err != nil {
		return nil, err
	}
	return r.blob(*desc), nil
}

func (r *remoteImage) blob(desc v1.Descriptor) *blob {
	return &blob{client: r.client, s: r.s, desc: desc, diffID: func() (v1.Hash, error) {
		return partial.BlobToDiffID(withManifest{r}, desc.Digest)
	}}
}

// withManifest gives the helpers of package partial what they ask for.
type withManifest struct{ *remoteImage }

func (w withManifest) Manifest() (*v1.Manifest, error)     { return w.parsed, nil }
func (w withManifest) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(w.remoteImage) }

// mountable says of each layer where it can be mounted from.
type mountable struct {
	v1.Image
	core *remoteImage
	ref  name.Reference
}

func (m *mountable) Layers() ([]v1.Layer, error) {
	layers, err := m.Image.Layers()
	if err != nil {
		return nil, err
	}
	for i, l := range layers {
		layers[i] = &remote.MountableLayer{Layer: l, Reference: m.ref}
	}
	return layers, nil
}

func (m *mountable) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := m.Image.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: l, Reference: m.ref}, nil
}

func (m *mountable) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	l, err := m.Image.LayerByDiffID(h)
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: l, Reference: m.ref}, nil
}

// ConfigLayer makes the config mountable, too: see partial.ConfigLayer.
func (m *mountable) ConfigLayer() (v1.Layer, error) {
	l, err := partial.CompressedToLayer(m.core.blob(m.core.parsed.Config))
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: l, Reference: m.ref}, nil
}
