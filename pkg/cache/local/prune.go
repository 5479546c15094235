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

// PruneOptions say what Prune keeps. With KeepFor and KeepBytes zero nothing is kept.
type PruneOptions struct {
	// KeepFor keeps what was used within this time.
	KeepFor time.Duration
	// KeepBytes keeps the most recently used up to this size on disk.
	KeepBytes int64
	// Layers keeps extracted layers below LayersDir. It may be nil.
	Layers Keeper
	// Remove removes what is in the directory of a cache that processes have mounted, of which parts may belong to other
	// users. It may be nil: then it is removed as far as this process may.
	Remove func(ctx context.Context, dir string) error
}

// Keeper keeps things that Prune counts and removes along with the store's own.
type Keeper interface {
	Kept(ctx context.Context) ([]Item, error)
	// Prune removes what was last used before then.
	Prune(ctx context.Context, then time.Time) error
}

// Item is something that is kept.
type Item struct {
	// Used is when it was used last.
	Used time.Time
	// Size is in bytes on disk.
	Size int64

	path  string // of the store's own items
	mount bool   // a cache that processes mount
}

// Pruned says what Prune did.
type Pruned struct {
	Items, Kept      int
	Bytes, BytesKept int64
}

// Prune removes from the store in dir what was last used before a time: the one that o.KeepFor gives, or a later one
// if what was used since then is larger than o.KeepBytes. It waits until no build uses the directory, or ctx is done.
func Prune(ctx context.Context, dir string, o PruneOptions) (Pruned, error) {
	if _, err := os.Stat(filepath.Join(dir, lockFile)); errors.Is(err, fs.ErrNotExist) {
		return Pruned{}, nil // nothing was ever built here
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return Pruned{}, fmt.Errorf("wait for builds that use %q: %w", dir, err)
	}
	defer lock.Close()
	own, err := list(dir)
	if err != nil {
		return Pruned{}, fmt.Errorf("list work directory: %w", err)
	}
	all := slices.Clone(own)
	if o.Layers != nil {
		layers, err := o.Layers.Kept(ctx)
		if err != nil {
			return Pruned{}, err
		}
		all = append(all, layers...)
	}
	then, p := o.limit(all)
	for _, it := range own {
		if it.Used.Before(then) {
			if err := errors.Join(context.Cause(ctx), o.remove(ctx, it)); err != nil {
				return p, fmt.Errorf("prune: %w", err)
			}
		}
	}
	if o.Layers != nil {
		if err := o.Layers.Prune(ctx, then); err != nil {
			return p, fmt.Errorf("prune: %w", err)
		}
	}
	return p, nil
}

// remove removes one of the store's own items.
func (o PruneOptions) remove(ctx context.Context, it Item) error {
	if it.mount && o.Remove != nil {
		if err := o.Remove(ctx, it.path); err != nil {
			return err
		}
	}
	err := os.RemoveAll(it.path)
	if err == nil && it.mount {
		err = os.Remove(it.path + ".lock")
	}
	return err
}

// limit returns the time before which things have to go, and what will have been done then.
func (o PruneOptions) limit(items []Item) (then time.Time, p Pruned) {
	if o.KeepFor == 0 && o.KeepBytes == 0 {
		then = time.Now().Add(time.Hour) // a clock may be behind that of a file server
	} else if o.KeepFor > 0 {
		then = time.Now().Add(-o.KeepFor)
	}
	slices.SortFunc(items, func(a, b Item) int { return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Size, b.Size)) })
	for _, it := range items {
		if !it.Used.Before(then) && o.KeepBytes > 0 && p.BytesKept+it.Size > o.KeepBytes {
			then = it.Used.Add(1)
		}
		if it.Used.Before(then) {
			p.Items++
			p.Bytes += it.Size
		} else {
			p.Kept++
			p.BytesKept += it.Size
		}
	}
	return then, p
}

// list finds everything of the store that can be removed on its own: what refers to it treats it as a miss then. Nobody
// else may be using the store.
func list(dir string) ([]Item, error) {
	var items []Item
	for _, sub := range []string{blobsDir, indexesDir, stepsDir, recordsDir, tempDir} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil {
				return nil, err
			}
			items = append(items, Item{path: filepath.Join(dir, sub, e.Name()), Used: fi.ModTime(), Size: fi.Size()})
		}
	}
	sources, err1 := listSources(dir)
	mounts, err2 := listMounts(dir)
	return slices.Concat(items, sources, mounts), errors.Join(err1, err2)
}

// listSources finds what package source keeps.
func listSources(dir string) ([]Item, error) {
	names, err := filepath.Glob(filepath.Join(globEscape(dir), sourcesDir, "*", "*"))
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, name := range names {
		fi, err := os.Lstat(name)
		if err != nil {
			return nil, err
		}
		items = append(items, Item{path: name, Used: fi.ModTime(), Size: sizeBelow(name)})
	}
	return items, nil
}
