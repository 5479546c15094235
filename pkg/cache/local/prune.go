package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

// PruneOptions say what Prune keeps. The zero value keeps nothing.
type PruneOptions struct {
	// KeepFor keeps what was used within this time.
	KeepFor time.Duration
	// KeepBytes keeps the most recently used up to this size on disk.
	KeepBytes int64
	// Remove removes a directory of extracted layers; nil is os.RemoveAll. In a user namespace, files of
	// other ids are out of an ordinary user's reach, but not out of the driver's.
	Remove func(ctx context.Context, dir string) error
}

// Pruned says what Prune did.
type Pruned struct {
	Items, Kept      int
	Bytes, BytesKept int64
}

// item is one thing that can be removed on its own: any other that refers to it treats it as a miss.
type item struct {
	path string
	dir  bool
	used time.Time
	size int64
}

// Prune removes from the store in dir what is older than o.KeepFor and, of the rest, the
// least recently used beyond o.KeepBytes; with both zero, everything. It waits until no build uses the
// directory, or ctx is done.
func Prune(ctx context.Context, dir string, o PruneOptions) (Pruned, error) {
	var p Pruned
	if _, err := os.Stat(filepath.Join(dir, lockFile)); errors.Is(err, fs.ErrNotExist) {
		return p, nil // nothing was ever built here
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return p, fmt.Errorf("wait for builds that use %q: %w", dir, err)
	}
	defer lock.Close()
	if o.Remove == nil {
		o.Remove = func(_ context.Context, dir string) error { return os.RemoveAll(dir) }
	}
	items, err := list(dir)
	if err != nil {
		return p, fmt.Errorf("list work directory: %w", err)
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(b.used.Compare(a.used), cmp.Compare(a.path, b.path)) })
	everything := o.KeepFor == 0 && o.KeepBytes == 0
	oldest := time.Now().Add(-o.KeepFor)
	for _, it := range items {
		young := o.KeepFor == 0 || it.used.After(oldest)
		fits := o.KeepBytes == 0 || p.BytesKept+it.size <= o.KeepBytes
		if young && fits && !everything {
			p.Kept++
			p.BytesKept += it.size
			continue
		}
		if err := it.remove(ctx, o); err != nil {
			return p, fmt.Errorf("prune: %w", err)
		}
		p.Items++
		p.Bytes += it.size
	}
	return p, nil
}

func (it item) remove(ctx context.Context, o PruneOptions) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if it.dir {
		return o.Remove(ctx, it.path)
	}
	return os.Remove(it.path)
}

// list finds everything that can be pruned in a store, which nobody else is using.
func list(dir string) ([]item, error) {
	var items []item
	for _, sub := range []string{blobsDir, indexesDir, stepsDir} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil {
				return nil, err
			}
			items = append(items, item{path: filepath.Join(dir, sub, e.Name()), used: fi.ModTime(), size: fi.Size()})
		}
	}
	// Layers lie one folder deeper, below their driver's name. Left-over temporary files are items too.
	for _, pattern := range []string{filepath.Join(layersDir, "*", "*"), filepath.Join(tempDir, "*")} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			it, err := measure(name)
			if err != nil {
				return nil, err
			}
			items = append(items, it)
		}
	}
	return items, nil
}

// measure adds up a tree's files. What it may not look into counts as empty.
func measure(name string) (item, error) {
	fi, err := os.Lstat(name)
	if err != nil {
		return item{}, err
	}
	it := item{path: name, dir: fi.IsDir(), used: fi.ModTime()}
	err = filepath.WalkDir(name, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return fs.SkipDir
			}
			return err
		}
		if fi, err := d.Info(); err == nil {
			it.size += fi.Size()
		}
		return nil
	})
	return it, err
}
