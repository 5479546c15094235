package push

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/registry"
)

// Registry returns an exporter that pushes to all of refs at once. Blobs that go to several repositories of one
// registry are sent once. When a destination fails the others are still written; the error names each that failed.
//
// A reference is a tag, or the digest that the image has. The error says which reference cannot be one.
func Registry(client *registry.Client, refs []string) (LayerTaker, error) {
	e := &toRegistry{client: client}
	refSeen, repoSeen := map[string]bool{}, map[string]bool{}
	for _, ref := range refs {
		r, err := registry.ParseReference(ref)
		if err != nil {
			return nil, err
		}
		if !refSeen[r.Name()] {
			refSeen[r.Name()] = true
			e.refs = append(e.refs, ref)
		}
		if repo := r.Context().Name(); !repoSeen[repo] {
			repoSeen[repo] = true
			e.repos = append(e.repos, repo)
		}
	}
	return e, nil
}

type toRegistry struct {
	client *registry.Client
	refs   []string
	repos  []string
	first  sync.Once
}

// Take implements LayerTaker.
func (e *toRegistry) Take(ctx context.Context, layer v1.Layer) error {
	e.first.Do(func() {
		for _, ref := range e.refs {
			e.client.Foresee(ref)
		}
	})
	return each(e.repos, func(repo string) error { return e.client.UploadLayer(ctx, repo, layer) })
}

// TakeConfig implements LayerTaker.
func (e *toRegistry) TakeConfig(ctx context.Context, img v1.Image) error {
	return each(e.refs, func(ref string) error { return e.client.UploadConfig(ctx, ref, img) })
}

// Export implements Exporter.
func (e *toRegistry) Export(ctx context.Context, a Artifact) ([]Receipt, error) {
	digest, err := a.Image.Digest()
	if err != nil {
		return nil, fmt.Errorf("push image: %w", err)
	}
	var (
		mu     sync.Mutex
		pushed = map[string]bool{}
	)
	err = each(e.refs, func(ref string) error {
		if err := e.client.PushImage(ctx, ref, a.Image); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		pushed[ref] = true
		return nil
	})
	var receipts []Receipt
	for _, ref := range e.refs {
		if pushed[ref] {
			receipts = append(receipts, Receipt{Name: ref, Digest: digest})
		}
	}
	return receipts, err
}

// each does f for all at once and joins the errors, in the order of list.
func each(list []string, f func(string) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, s := range list {
		wg.Go(func() { errs[i] = f(s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
