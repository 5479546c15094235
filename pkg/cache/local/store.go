// Package local keeps everything that builds on one machine share in one directory: layer
// blobs by digest, file indexes by diff ID, step results by key, and the folder in which sandbox
// drivers keep extracted layers.
//
// Every file is written under a temporary name, and takes its own name only when it is whole, so what
// can be found can be trusted, whichever build was killed when. Builds may share a directory at the same
// time. Nothing is synced to the disk: what a power cut damages is a cache.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Names of what lies in a store's directory.
const (
	blobsDir   = "blobs"
	indexesDir = "indexes"
	stepsDir   = "steps"
	layersDir  = "layers"
	tempDir    = "tmp"
	sourcesDir = "sources"
	lockFile   = "lock"
)

// Store is one open work directory. It is safe for concurrent use.
type Store struct {
	dir  string
	temp string
	// use is held shared for as long as the store is open, so that pruning can tell that nobody is building.
	use *flock.Flock
	// own is held for as long as temp is in use, so that others can tell it from what a killed build left.
	own *flock.Flock

	mu        sync.Mutex
	downloads map[v1.Hash]*download
}

// Open opens the store in dir, making it if need be, and removes what killed builds left behind. The caller
// closes it.
func Open(ctx context.Context, dir string) (*Store, error) {
	s := &Store{dir: dir, downloads: map[v1.Hash]*download{}}
	if err := s.prepare(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("open work directory %q: %w; name another one", dir, err)
	}
	s.sweep()
	return s, nil
}

func (s *Store) prepare(ctx context.Context) error {
	for _, d := range []string{blobsDir, indexesDir, stepsDir, recordsDir, layersDir, tempDir} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return err
		}
	}
	s.use = flock.New(filepath.Join(s.dir, lockFile))
	if _, err := s.use.TryRLockContext(ctx, 50*time.Millisecond); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if err := s.makeTemp(); err != nil {
		return errors.Join(err, s.use.Close())
	}
	return nil
}

// makeTemp makes this process's own temporary directory, and the lock beside it that says that it is
// in use.
func (s *Store) makeTemp() error {
	f, err := os.CreateTemp(s.tempRoot(), "build-*.lock")
	if err != nil {
		return err
	}
	name := f.Name()
	if err := f.Close(); err != nil {
		return err
	}
	s.own = flock.New(name)
	if ok, err := s.own.TryLock(); err != nil || !ok {
		return fmt.Errorf("lock %q: %w", name, errors.Join(err, fs.ErrExist))
	}
	s.temp = name[:len(name)-len(".lock")]
	return os.Mkdir(s.temp, 0o700)
}

func (s *Store) tempRoot() string { return filepath.Join(s.dir, tempDir) }

// sweep removes the temporary directories of builds that are no more: those whose lock nobody holds.
func (s *Store) sweep() {
	locks, err := filepath.Glob(filepath.Join(s.tempRoot(), "build-*.lock"))
	if err != nil {
		return
	}
	for _, name := range locks {
		if name == s.own.Path() || recent(name) {
			continue
		}
		l := flock.New(name)
		if ok, err := l.TryLock(); err != nil || !ok {
			continue
		}
		// What cannot be removed, such as files of other ids below a user namespace's directory, is tried
		// again by whoever opens the store next; the lock file goes last for that.
		if err := os.RemoveAll(name[:len(name)-len(".lock")]); err == nil {
			_ = os.Remove(name)
		}
		_ = l.Close()
	}
}

// recent says that a lock file is so young that its owner may not have locked it yet.
func recent(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && time.Since(fi.ModTime()) < 2*time.Second
}

// Close removes temporary files. What the store keeps stays.
func (s *Store) Close() error {
	err := os.RemoveAll(s.temp)
	if err == nil {
		err = os.Remove(s.own.Path())
	}
	return errors.Join(err, s.own.Close(), s.use.Close())
}

// TempDir is a directory on the store's filesystem that Close removes.
func (s *Store) TempDir() string { return s.temp }

// SourcesDir is where package source keeps what it fetched: one file or folder for each thing, below a folder for each
// kind, whose time of modification says when it was last used.
func (s *Store) SourcesDir() string { return filepath.Join(s.dir, sourcesDir) }

// LayersDir is where a sandbox driver named driver keeps extracted layers.
func (s *Store) LayersDir(driver string) string { return filepath.Join(LayersDir(s.dir), driver) }

// LayersDir is the folder in which the drivers' folders are, in the store in dir.
func LayersDir(dir string) string { return filepath.Join(dir, layersDir) }

func (s *Store) blobPath(digest v1.Hash) string {
	return filepath.Join(s.dir, blobsDir, digest.Algorithm+"-"+digest.Hex)
}

// Keep moves a blob that was written to TempDir into the store. Afterwards the blob reads from there.
func (s *Store) Keep(b *snapshot.Blob) error {
	digest, err := b.Digest()
	if err != nil {
		return err
	}
	diffID, err := b.DiffID()
	if err != nil {
		return err
	}
	to := s.blobPath(digest)
	if err := os.Rename(b.Path, to); err != nil {
		return fmt.Errorf("keep layer: %w", err)
	}
	b.Moved(to)
	return s.PutIndex(context.Background(), diffID, b.Index)
}

// Index implements rootfs.Indexes.
func (s *Store) Index(_ context.Context, diffID v1.Hash) (*rootfs.Index, error) {
	name := s.indexPath(diffID)
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x, err := rootfs.DecodeIndex(f)
	if err != nil {
		// A damaged index is as good as none, and the next one replaces it.
		return nil, fmt.Errorf("read index of %s: %w", diffID, errors.Join(fs.ErrNotExist, err))
	}
	touch(name)
	return x, nil
}

// PutIndex implements rootfs.Indexes.
func (s *Store) PutIndex(_ context.Context, diffID v1.Hash, x *rootfs.Index) error {
	return s.write(s.indexPath(diffID), func(f *os.File) error {
		_, err := x.WriteTo(f)
		return err
	})
}

func (s *Store) indexPath(diffID v1.Hash) string {
	return filepath.Join(s.dir, indexesDir, diffID.Algorithm+"-"+diffID.Hex)
}

// write makes the file name of what fill writes, or nothing.
func (s *Store) write(name string, fill func(*os.File) error) error {
	f, err := os.CreateTemp(s.temp, "part-*")
	if err != nil {
		return err
	}
	err = fill(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// touch notes that a file was used, for Prune. Access times would do, but are often switched off.
func touch(name string) {
	now := time.Now()
	_ = os.Chtimes(name, now, now)
}
