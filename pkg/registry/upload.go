package registry

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// maxUploads is how many blobs are uploaded to one registry at a time. One connection rarely fills a line to a
// registry far away, and BuildKit's four leave room there; more than eight share what there is.
const maxUploads = 8

// maxQuestions is how many blobs a registry is asked about at a time: whether it has them, or mounts them. That takes a
// round trip and no bandwidth, so an image of a hundred cached layers need not wait ten times.
const maxQuestions = 64

// maxMounts is how many repositories are tried as the source of a mount.
const maxMounts = 2

// ledger knows what this client has put where, so that a blob goes to a registry once.
type ledger struct {
	mu    sync.Mutex
	blobs map[string]*upload // by registry and digest
	slots map[string]slots   // by registry
}

// slots bound what is done at one registry at a time.
type slots struct {
	questions, uploads chan struct{}
}

// upload is what is known of one blob at one registry.
type upload struct {
	turn  chan struct{} // held by whoever works on the blob
	repos []string      // that have it; owned by whoever has the turn
}

func (l *ledger) of(registry string, h v1.Hash) *upload {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blobs == nil {
		l.blobs = map[string]*upload{}
	}
	key := registry + " " + h.String()
	u := l.blobs[key]
	if u == nil {
		u = &upload{turn: make(chan struct{}, 1)}
		l.blobs[key] = u
	}
	return u
}

func (l *ledger) slotsAt(registry string) slots {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slots == nil {
		l.slots = map[string]slots{}
	}
	s, ok := l.slots[registry]
	if !ok {
		s = slots{questions: make(chan struct{}, maxQuestions), uploads: make(chan struct{}, maxUploads)}
		l.slots[registry] = s
	}
	return s
}

// enter takes a place in ch, or returns the cause of ctx's end.
func enter(ctx context.Context, ch chan struct{}) error {
	select {
	case ch <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (u *upload) has(repo string) bool {
	for _, r := range u.repos {
		if r == repo {
			return true
		}
	}
	return false
}

func (u *upload) forget(repo string) {
	kept := u.repos[:0]
	for _, r := range u.repos {
		if r != repo {
			kept = append(kept, r)
		}
	}
	u.repos = kept
}

// UploadLayer puts the layer's blob into repo, a repository such as "registry/name". When it returns nil the
// registry has the blob.
//
// The same blob is moved once for each registry, whoever asks for it how often and at the same time:
// where it is in another repository already (because the layer came from there, or was uploaded there), it is mounted. A
// mount that is refused becomes an upload. The layer must know its digest and size, and be readable more than
// once: a transfer that breaks goes on, or starts again. Layers that may not be distributed are left where they are.
//
// Errors are of type [*Error]; one that the layer's own reader made is below it.
func (c *Client) UploadLayer(ctx context.Context, repo string, layer v1.Layer) error {
	r, err := name.NewRepository(repo, name.WeakValidation)
	if err != nil {
		return fmt.Errorf("parse repository %q: %w", repo, err)
	}
	return c.uploadLayer(ctx, r, layer)
}

func (c *Client) uploadLayer(ctx context.Context, repo name.Repository, layer v1.Layer) error {
	mt, err := layer.MediaType()
	if err != nil {
		return fmt.Errorf("upload layer: %w", err)
	}
	if !mt.IsDistributable() {
		return nil
	}
	desc := v1.Descriptor{MediaType: mt}
	if desc.Digest, err = layer.Digest(); err != nil {
		return fmt.Errorf("upload layer: %w", err)
	}
	if desc.Size, err = layer.Size(); err != nil {
		return fmt.Errorf("upload layer %s: %w", desc.Digest, err)
	}

	u := c.uploads.of(repo.RegistryStr(), desc.Digest)
	if err := enter(ctx, u.turn); err != nil {
		return err
	}
	defer func() { <-u.turn }()
	if u.has(repo.RepositoryStr()) {
		return nil
	}
	t := &transfer{
		client: c, repo: repo, layer: layer, desc: desc,
		from: mountSources(repo, layer, u.repos), slots: c.uploads.slotsAt(repo.RegistryStr()),
	}
	if err := t.run(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return c.fail("upload layer "+desc.Digest.String()+" to", repo.Name(), repo, t.who(), err)
	}
	u.repos = append(u.repos, repo.RepositoryStr())
	return nil
}

// mountSources lists the repositories of repo's registry that have the layer: where it came from, and those that have
// been given it.
func mountSources(repo name.Repository, layer v1.Layer, have []string) []string {
	var from []string
	if m, ok := layer.(*remote.MountableLayer); ok {
		src := m.Reference.Context()
		if src.RegistryStr() == repo.RegistryStr() && src.RepositoryStr() != repo.RepositoryStr() {
			from = append(from, src.RepositoryStr())
		}
	}
	for _, r := range have {
		if len(from) < maxMounts && (len(from) == 0 || from[0] != r) {
			from = append(from, r)
		}
	}
	return from
}
