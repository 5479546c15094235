package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// mountsDir is the folder of the caches that processes mount: in it, a folder for each ID, with one numbered directory
// and a lock beside it for each copy of the cache. There is one copy, but for caches that are private while several
// processes have them.
const mountsDir = "mounts"

// lockDelay is how often a lock that somebody else has is tried.
const lockDelay = 50 * time.Millisecond

// Mount returns the directory of the cache that processes mount as id; it is empty at first. It is the caller's
// until release is called, and shared with others as sharing says: "shared" with all who say that too, while "locked" waits
// until it is the only one, and "private" takes a copy that nobody else has at the time, or a new one. This holds
// between all builds that use the store.
func (s *Store) Mount(ctx context.Context, id, sharing string) (dir string, release func() error, err error) {
	sum := sha256.Sum256([]byte(id))
	folder := filepath.Join(s.dir, mountsDir, hex.EncodeToString(sum[:]))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", nil, err
	}
	var lock *flock.Flock
	if sharing == "private" {
		lock, err = lockPrivate(folder)
	} else {
		lock = flock.New(filepath.Join(folder, "0.lock"))
		if sharing == "locked" {
			_, err = lock.TryLockContext(ctx, lockDelay)
		} else {
			_, err = lock.TryRLockContext(ctx, lockDelay)
		}
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", nil, fmt.Errorf("lock: %w", err)
	}
	dir = strings.TrimSuffix(lock.Path(), ".lock")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", nil, errors.Join(err, lock.Close())
	}
	touch(lock.Path())
	return dir, lock.Close, nil
}

// lockPrivate locks the first copy that nobody has.
func lockPrivate(folder string) (*flock.Flock, error) {
	for i := 0; ; i++ {
		lock := flock.New(filepath.Join(folder, strconv.Itoa(i)+".lock"))
		if ok, err := lock.TryLock(); err != nil || ok {
			return lock, err
		}
		if err := lock.Close(); err != nil {
			return nil, err
		}
	}
}

// listMounts lists the copies of all caches. Nobody else may be using the store.
func listMounts(dir string) ([]Item, error) {
	locks, err := filepath.Glob(filepath.Join(globEscape(dir), mountsDir, "*", "*.lock"))
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, lock := range locks {
		fi, err := os.Stat(lock)
		if err != nil {
			return nil, err
		}
		path := strings.TrimSuffix(lock, ".lock")
		items = append(items, Item{path: path, mount: true, Used: fi.ModTime(), Size: sizeBelow(path)})
	}
	return items, nil
}

// globEscape is dir as a pattern that matches dir alone.
func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// sizeBelow is the size of the files in dir, as far as they can be seen.
func sizeBelow(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what belongs to other ids is not counted
		}
		if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() {
			size += fi.Size()
		}
		return nil
	})
	return size
}
