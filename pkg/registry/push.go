package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
)

// PushImage puts img at ref, which is a tag, or the digest that img has. When it returns nil, ref is img
// and all of its blobs are there. Blobs are moved as [Client.UploadLayer] has it; a reference that is img
// already costs one request. The manifest is written last, so what ref was before stays until then.
//
// Errors are of type [*Error].
func (c *Client) PushImage(ctx context.Context, ref string, img v1.Image) error {
	r, err := ParseReference(ref)
	if err != nil {
		return err
	}
	err = c.pushImage(ctx, r, img)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var explained *Error
	if errors.As(err, &explained) {
		return &Error{Op: "push image", Ref: ref, Err: err}
	}
	return c.fail("push image", ref, r.Context(), c.who(r, Push), err)
}

func (c *Client) pushImage(ctx context.Context, ref name.Reference, img v1.Image) error {
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("digest of image: %w", err)
	}
	if d, ok := ref.(name.Digest); ok && d.DigestStr() != digest.String() {
		return fmt.Errorf("the image has digest %s", digest)
	}
	if is, err := c.isAlready(ctx, ref, digest); is || err != nil {
		return err
	}
	blobs, err := blobsOf(img)
	if err != nil {
		return err
	}
	for retries := c.backoff(); ; {
		if err := c.pushBlobs(ctx, ref.Context(), blobs); err != nil {
			return err
		}
		err := c.putManifest(ctx, ref, img)
		if !blobUnknown(err) {
			return err
		}
		// A registry may have dropped what was uploaded early, and the CNCF distribution, on a filesystem, does not
		// see a blob while somebody else is pushing it once more. Look again at each.
		wait, again := retries.next(0)
		if !again {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		if err := c.forget(ctx, ref.Context(), blobs); err != nil {
			return err
		}
	}
}

// Foresee begins to ask what ref is now, which PushImage asks first: one that comes when the answer is there need not wait
// for it. It returns at once. The question ends with the client, and errors are left to the push.
func (c *Client) Foresee(ref string) {
	r, err := ParseReference(ref)
	if err != nil {
		return
	}
	a := &foresight{known: make(chan struct{})}
	c.mu.Lock()
	c.foreseen[r.Name()] = a
	c.mu.Unlock()
	go func() {
		a.digest = c.digestAt(c.life, r)
		close(a.known)
	}()
}

// foresight is what a reference was when Foresee asked.
type foresight struct {
	known  chan struct{}
	digest v1.Hash // when known is closed
}

// was waits for the answer, and reports whether it is digest.
func (a *foresight) was(ctx context.Context, digest v1.Hash) (bool, error) {
	select {
	case <-a.known:
		return a.digest == digest, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// UploadConfig puts the config of img where PushImage will look for it, as UploadLayer does with a layer, unless ref was img when
// Foresee asked: PushImage will then most likely have nothing to do.
func (c *Client) UploadConfig(ctx context.Context, ref string, img v1.Image) error {
	r, err := ParseReference(ref)
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("digest of image: %w", err)
	}
	c.mu.Lock()
	before := c.foreseen[r.Name()]
	c.mu.Unlock()
	if before != nil {
		if was, err := before.was(ctx, digest); was || err != nil {
			return err
		}
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return fmt.Errorf("config of image: %w", err)
	}
	return c.uploadLayer(ctx, r.Context(), config)
}

// isAlready reports whether ref is the image with this digest. A registry that does not say what is there, or not to us, is
// pushed to.
func (c *Client) isAlready(ctx context.Context, ref name.Reference, digest v1.Hash) (bool, error) {
	c.mu.Lock()
	before := c.foreseen[ref.Name()]
	delete(c.foreseen, ref.Name())
	c.mu.Unlock()
	if before != nil {
		if was, err := before.was(ctx, digest); !was || err != nil {
			return false, err
		}
		// What it was is no proof of what it is.
	}
	is := c.digestAt(ctx, ref) == digest
	if !is && ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return is, nil
}

// digestAt is what ref names; zero if that is not known.
func (c *Client) digestAt(ctx context.Context, ref name.Reference) v1.Hash {
	d, err := c.head(ctx, ref, Push)
	if err != nil {
		return v1.Hash{}
	}
	return d.Digest
}

// blobsOf lists the layers and the config, each once. An image may have the same layer twice.
func blobsOf(img v1.Image) ([]v1.Layer, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("layers of image: %w", err)
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return nil, fmt.Errorf("config of image: %w", err)
	}
	seen := map[v1.Hash]bool{}
	var blobs []v1.Layer
	for _, l := range append(layers, config) {
		h, err := l.Digest()
		if err != nil {
			return nil, fmt.Errorf("digest of layer: %w", err)
		}
		if !seen[h] {
			seen[h] = true
			blobs = append(blobs, l)
		}
	}
	return blobs, nil
}

func (c *Client) pushBlobs(ctx context.Context, repo name.Repository, blobs []v1.Layer) error {
	// As many as there are: those that cannot go yet wait for their turn, and a blob that another push
	// is sending must not keep others from going.
	g, ctx := errgroup.WithContext(ctx)
	for _, b := range blobs {
		g.Go(func() error { return c.uploadLayer(ctx, repo, b) })
	}
	return g.Wait()
}

// forget drops what is known of the blobs at repo.
func (c *Client) forget(ctx context.Context, repo name.Repository, blobs []v1.Layer) error {
	for _, b := range blobs {
		h, err := b.Digest()
		if err != nil {
			return err
		}
		u := c.uploads.of(repo.RegistryStr(), h)
		if err := enter(ctx, u.turn); err != nil {
			return err
		}
		u.forget(repo.RepositoryStr())
		<-u.turn
	}
	return nil
}

func (c *Client) putManifest(ctx context.Context, ref name.Reference, img v1.Image) error {
	s, err := c.session(ctx, ref.Context(), Push, "")
	if err != nil {
		return err
	}
	pusher, err := s.pusher()
	if err != nil {
		return err
	}
	return pusher.Put(ctx, at(s.repo, ref), img)
}

func blobUnknown(err error) bool {
	return saysCode(err, transport.ManifestBlobUnknownErrorCode) || saysCode(err, transport.BlobUnknownErrorCode)
}

// saysCode reports whether a registry gave this code (distribution-spec, "Error Codes") for its refusal.
func saysCode(err error, code transport.ErrorCode) bool {
	var t *transport.Error
	if !errors.As(err, &t) {
		return false
	}
	for _, d := range t.Errors {
		if d.Code == code {
			return true
		}
	}
	return false
}

// CheckPush asks whether repo, such as "registry/name", may be pushed to, by beginning an upload and ending it
// again. It returns an error only when the registry says no: a registry that cannot be asked this way is left to tell
// with the first layer.
func (c *Client) CheckPush(ctx context.Context, repo string) error {
	r, err := name.NewRepository(repo, name.WeakValidation)
	if err != nil {
		return fmt.Errorf("parse repository %q: %w", repo, err)
	}
	t := &transfer{client: c, repo: r}
	if t.s, err = c.session(ctx, r, Push, ""); err == nil {
		if err = t.begin(ctx); err == nil {
			t.abandon(ctx)
			return nil
		}
	}
	switch Status(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return c.fail("push to", repo, r, t.who(), err)
	}
	return nil
}
