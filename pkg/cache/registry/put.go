package registry

import (
	"context"
	"fmt"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Put implements cache.Store. Blobs that are in the registry already are mounted or left where they are, as
// [registry.Client.UploadLayer] has it. A repository that takes no tag twice keeps the entry that it has. The file index
// of a layer that knows it is put, too: the next build may have to copy onto the layer without reading it.
func (s *Store) Put(ctx context.Context, k cache.Key, e cache.Entry) error {
	rec, err := cache.NewRecord(k, e)
	if err != nil {
		return fmt.Errorf("put cache entry: %w", err)
	}
	l := e.Layer
	if l == nil {
		l = emptyTar()
	}
	img, err := entryImage(rec, l)
	if err != nil {
		return fmt.Errorf("put cache entry: %w", err)
	}
	ctx = patience(ctx)
	if err := s.push(ctx, k.String(), img, l); err != nil {
		return writeError(err)
	}
	if x, ok := e.Layer.(rootfs.Indexed); ok && x.FileIndex() != nil {
		return s.PutIndex(ctx, rec.Layer.DiffID, x.FileIndex())
	}
	return nil
}

// push puts img, whose only layer is l, under tag.
func (s *Store) push(ctx context.Context, tag string, img v1.Image, l v1.Layer) error {
	// The layer first and in any case: when the tag is img already, nobody has said that the layer is still there.
	if err := s.client.UploadLayer(ctx, s.repo, l); err != nil {
		return err
	}
	err := s.client.PushImage(ctx, s.tag(tag), img)
	if refusedTag(err) && s.has(ctx, tag) {
		err = nil
	}
	if err == nil {
		s.absent.Store(false)
	}
	return err
}

// refusedTag says that the registry may have refused a manifest because its tag is taken, for which each has a
// status of its own: 400, 403, 409 and 412 are in use.
func refusedTag(err error) bool {
	switch registry.Status(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusConflict, http.StatusPreconditionFailed:
		return true
	}
	return false
}

// has says that tag names something that was written here.
func (s *Store) has(ctx context.Context, tag string) bool {
	m, err := s.client.Manifest(ctx, s.tag(tag), registry.Push)
	if err != nil {
		return false
	}
	_, _, entry := parseEntry(m)
	_, index := parseIndex(m)
	_, note := parseNote(m)
	return entry == nil || index == nil || note == nil
}
