package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// stepFile is a step's result as it lies on disk.
type stepFile struct {
	Layer   *layerRef `json:"layer,omitempty"`
	Created time.Time `json:"created"`
	Below   string    `json:"below,omitempty"`
	Content string    `json:"content,omitempty"`
	Step    string    `json:"step"`
}

type layerRef struct {
	Digest    v1.Hash         `json:"digest"`
	DiffID    v1.Hash         `json:"diffID"`
	Size      int64           `json:"size"`
	MediaType types.MediaType `json:"mediaType"`
}

func (s *Store) stepPath(k cache.Key) string {
	return filepath.Join(s.dir, stepsDir, k.String())
}

// Get implements cache.Store. An entry whose blob is gone is a miss.
func (s *Store) Get(_ context.Context, k cache.Key) (cache.Entry, error) {
	name := s.stepPath(k)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return cache.Entry{}, cache.ErrMiss
	}
	if err != nil {
		return cache.Entry{}, fmt.Errorf("read step result: %w", err)
	}
	var f stepFile
	if err := json.Unmarshal(data, &f); err != nil {
		return cache.Entry{}, fmt.Errorf("read step result %q: %w", name, err)
	}
	if f.Created.IsZero() {
		return cache.Entry{}, cache.ErrMiss // none that was written here, whatever it is
	}
	e := cache.Entry{Created: f.Created, Step: f.Step}
	if f.Below != "" {
		if e.Below, err = v1.NewHash(f.Below); err != nil {
			return cache.Entry{}, fmt.Errorf("read step result %q: %w", name, err)
		}
	}
	if f.Content != "" {
		if e.Content, err = cache.ParseKey(f.Content); err != nil {
			return cache.Entry{}, fmt.Errorf("read step result %q: %w", name, err)
		}
	}
	if f.Layer != nil {
		path := s.blobPath(f.Layer.Digest)
		if fi, err := os.Stat(path); err != nil || fi.Size() != f.Layer.Size {
			return cache.Entry{}, cache.ErrMiss
		}
		touch(path)
		e.Layer = snapshot.OpenBlob(path, v1.Descriptor{
			MediaType: f.Layer.MediaType, Digest: f.Layer.Digest, Size: f.Layer.Size,
		}, f.Layer.DiffID)
	}
	touch(name)
	return e, nil
}

// Put implements cache.Store. A layer that is not in the store yet is fetched into it.
func (s *Store) Put(_ context.Context, k cache.Key, e cache.Entry) error {
	f := stepFile{Created: e.Created, Step: e.Step}
	if e.Below != (v1.Hash{}) {
		f.Below = e.Below.String()
	}
	if e.Content != (cache.Key{}) {
		f.Content = e.Content.String()
	}
	if e.Layer != nil {
		ref, err := s.adopt(e.Layer)
		if err != nil {
			return fmt.Errorf("put step result: %w", err)
		}
		f.Layer = ref
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return s.write(s.stepPath(k), func(w *os.File) error {
		_, err := w.Write(data)
		return err
	})
}

// adopt makes sure that the store has the layer's blob.
func (s *Store) adopt(l v1.Layer) (*layerRef, error) {
	ref := &layerRef{}
	var err error
	if ref.Digest, err = l.Digest(); err != nil {
		return nil, err
	}
	if ref.DiffID, err = l.DiffID(); err != nil {
		return nil, err
	}
	if ref.Size, err = l.Size(); err != nil {
		return nil, err
	}
	if ref.MediaType, err = l.MediaType(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(s.blobPath(ref.Digest)); err == nil {
		return ref, nil
	}
	rc, err := s.Through(l).Compressed()
	if err != nil {
		return nil, err
	}
	return ref, drain(rc)
}
