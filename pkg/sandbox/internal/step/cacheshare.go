package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/cachedir"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// holdAndFill fills a cache, if nobody else has prepared it.
func holdAndFill(ctx context.Context, w *worker.Worker, dir string, layers []v1.Layer, note []byte, indexes rootfs.Indexes) error {
	own := cacheDir(w, dir)
	held, err := cachedir.Hold(own)
	if err != nil {
		return err
	}
	defer held.Close()
	if ok, err := cachedir.Prepared(own); ok || err != nil {
		return err // somebody else was first
	}
	err = fillCache(ctx, w, own, layers, note, indexes)
	if rubbish := w.Remove(context.WithoutCancel(ctx), []string{cachedir.Rubbish(own)}); err == nil {
		err = rubbish
	}
	if err != nil {
		return fmt.Errorf("fill cache: %w", err)
	}
	return nil
}

func fillCache(ctx context.Context, w *worker.Worker, own string, layers []v1.Layer, note []byte, indexes rootfs.Indexes) error {
	next := cachedir.Rubbish(own)
	if err := w.Remove(ctx, []string{next}); err != nil {
		return err
	}
	if err := os.Mkdir(next, 0o700); err != nil {
		return err
	}
	for _, l := range layers {
		if err := w.Extract(ctx, l, next, indexes, nil); err != nil {
			return fmt.Errorf("extract layer: %w", err)
		}
	}
	record, err := tempRecord(own)
	if err != nil {
		return err
	}
	defer os.Remove(record)
	// It is an error here if the layers have something else than a directory in its place.
	if err := w.Record(ctx, filepath.Join(next, sandbox.CacheLayerRoot), record); err != nil {
		return err
	}
	if err := cachedir.Remember(own, record, note); err != nil {
		return err
	}
	return w.Rename(ctx, filepath.Join(next, sandbox.CacheLayerRoot), filepath.Join(own, cachedir.DataName))
}

// tempRecord makes the name of a record that is not known yet.
func tempRecord(own string) (string, error) {
	f, err := os.CreateTemp(own, "record-*")
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// readCache compares a cache with what is known of it.
func readCache(ctx context.Context, w *worker.Worker, dir string, o sandbox.ReadCacheOptions, indexes rootfs.Indexes) (sandbox.CacheReading, error) {
	own := cacheDir(w, dir)
	spec := worker.CacheSpec{Dir: own, Name: cachedir.DataName}
	if o.Layers != nil {
		spec.Before = cachedir.Remembered(own)
	}
	look := rootfs.Options{Indexes: indexes, TempDir: own}
	err := merge(ctx, &spec, o, look)
	if err == nil {
		spec.After, err = tempRecord(own)
	}
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	r := &cacheReading{own: own, record: spec.After}
	r.changes = w.ReadCache(ctx, spec, func(ctx context.Context, f worker.CacheFound) ([]*diff.Known, error) {
		if o.MaxSize > 0 && f.Size > o.MaxSize {
			return nil, &sandbox.CacheSizeError{Size: f.Size, Max: o.MaxSize}
		}
		known, err := diff.KnownIn(ctx, o.Layers, look, f.Doubtful)
		if err != nil {
			return make([]*diff.Known, len(f.Doubtful)), nil //nolint:nilerr // what is not known has changed
		}
		return known, nil
	})
	return r, nil
}

// merge looks up what the changes are to be those of when they are not those to all layers.
func merge(ctx context.Context, spec *worker.CacheSpec, o sandbox.ReadCacheOptions, look rootfs.Options) (err error) {
	if o.Merge == 0 {
		return nil
	}
	keep := len(o.Layers) - o.Merge
	if keep < 1 {
		return errors.New("no layer would be left to put changes on")
	}
	if spec.Base, err = diff.FilesIn(ctx, o.Layers[:keep], look); err != nil {
		return err
	}
	for _, l := range o.Layers[keep:] {
		files, err := diff.FilesIn(ctx, []v1.Layer{l}, look)
		if err != nil {
			return err
		}
		for _, f := range files {
			spec.Touched = append(spec.Touched, f.Name)
		}
	}
	return nil
}

// cacheReading implements sandbox.CacheReading.
type cacheReading struct {
	own, record string
	changes     snapshot.Changes
}

func (r *cacheReading) Changes() snapshot.Changes { return r.changes }

func (r *cacheReading) Remember(note []byte) error { return cachedir.Remember(r.own, r.record, note) }

func (r *cacheReading) Close() error {
	if err := os.Remove(r.record); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
