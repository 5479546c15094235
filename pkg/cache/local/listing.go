package local

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// List returns the results of steps that the store has, in no particular order.
func (s *Store) List(ctx context.Context) ([]cache.Item, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, stepsDir))
	if err != nil {
		return nil, err
	}
	var items []cache.Item
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		key, err := cache.ParseKey(e.Name())
		if err != nil {
			continue // no result
		}
		items = append(items, s.item(key))
	}
	return items, nil
}

// item describes one result. What is wrong with it is a part of the description.
func (s *Store) item(k cache.Key) cache.Item {
	it := cache.Item{Name: k.String(), Key: k, Ref: s.stepPath(k)}
	data, err := os.ReadFile(it.Ref)
	var f stepFile
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		it.Problem = err.Error()
		return it
	}
	it.Created, it.Step = f.Created, f.Step
	if l := f.Layer; l != nil {
		it.Size = l.Size
		it.Layer = &cache.LayerRecord{Digest: l.Digest, Size: l.Size, MediaType: l.MediaType, DiffID: l.DiffID}
		if fi, err := os.Stat(s.blobPath(l.Digest)); err != nil || fi.Size() != l.Size {
			it.Problem = "its layer is not there any more"
		}
	}
	return it
}
