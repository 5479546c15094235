package registry

import (
	"context"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/registry"
)

// parallel is how many manifests are asked for, or deleted, at a time.
const parallel = 8

// List implements cache.Keeper, with one request for each item. Tags that do not look like ours are left out, so a
// repository that has images, too, can be listed and pruned.
func (s *Store) List(ctx context.Context) ([]cache.Item, error) {
	tags, err := s.client.Tags(ctx, s.repo, s.o.Direction)
	if err != nil {
		return nil, err
	}
	var ours []string
	for _, tag := range tags {
		name := strings.TrimPrefix(strings.TrimPrefix(tag, indexPrefix), notePrefix)
		if _, err := cache.ParseKey(name); err == nil {
			ours = append(ours, tag)
		}
	}
	items := make([]*cache.Item, len(ours))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, tag := range ours {
		group.Go(func() error {
			m, err := s.client.Manifest(ctx, s.tag(tag), s.o.Direction)
			if registry.NotFound(err) {
				return nil // removed meanwhile
			}
			if err == nil {
				items[i] = item(tag, m)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var list []cache.Item
	for _, it := range items {
		if it != nil {
			list = append(list, *it)
		}
	}
	return list, nil
}

// item describes what a tag of ours names.
func item(tag string, m v1.Descriptor) *cache.Item {
	it := &cache.Item{Name: tag, Ref: m.Digest.String(), Size: m.Size}
	var layer v1.Descriptor
	var err error
	file := func(created time.Time, l v1.Descriptor) {
		it.Created, layer = created, l
		it.Layer = &cache.LayerRecord{Digest: l.Digest, Size: l.Size, MediaType: l.MediaType, DiffID: l.Digest}
	}
	switch {
	case strings.HasPrefix(tag, indexPrefix):
		var im indexManifest
		im, err = parseIndex(m)
		file(im.created, im.layer)
	case strings.HasPrefix(tag, notePrefix):
		var f fileManifest
		f, err = parseNote(m)
		file(f.created, f.layer)
	default:
		var rec cache.Record
		rec, layer, err = parseEntry(m)
		it.Key, it.Created, it.Step, it.Layer = rec.Key, rec.Created, rec.Step, rec.Layer
	}
	if err != nil {
		it.Problem = err.Error()
	}
	it.Size += layer.Size
	return it
}

// Delete implements cache.Keeper. Blobs stay until the registry collects its garbage.
func (s *Store) Delete(ctx context.Context, items []cache.Item) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, it := range items {
		group.Go(func() error { return s.client.DeleteManifest(ctx, s.repo+"@"+it.Ref) })
	}
	return group.Wait()
}
