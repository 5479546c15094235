package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
)

var _ sandbox.Keeper = (*Driver)(nil)

// Kept implements sandbox.Keeper.
func (d *Driver) Kept(ctx context.Context) ([]sandbox.Kept, error) {
	s, err := d.open()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "chains"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var kept []sandbox.Kept
	for _, e := range entries {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		link := filepath.Join(s.dir, "chains", e.Name())
		fi, err := os.Lstat(link)
		if err != nil {
			return nil, fmt.Errorf("list layers: %w", err)
		}
		target, err := os.Readlink(link)
		if err != nil {
			return nil, fmt.Errorf("list layers: %w", err)
		}
		kept = append(kept, sandbox.Kept{Used: fi.ModTime(), Size: sizeOf(s.data(filepath.Base(target)))})
	}
	return kept, nil
}

// sizeOf adds up the files below dir. Those that are out of reach, because they belong to ids of another namespace,
// do not count.
func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // out of reach
		}
		if fi, err := e.Info(); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				size += st.Blocks * 512 // POSIX stat: blocks are of 512 bytes
			}
		}
		return nil
	})
	return size
}

// Prune implements sandbox.Keeper.
func (d *Driver) Prune(ctx context.Context, before time.Time) error {
	s, err := d.open()
	if err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	held, err := lock.Share(s.dir, func() error {
		if err := s.forget(before); err != nil {
			return err
		}
		return s.collect(ctx)
	})
	if err != nil {
		return fmt.Errorf("prune layers: %w", err)
	}
	return held.Close()
}

// forget removes the links to layers that were last used before then.
func (s *store) forget(then time.Time) error {
	chains := filepath.Join(s.dir, "chains")
	entries, err := os.ReadDir(chains)
	if err != nil {
		return err
	}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil && fi.ModTime().Before(then) {
			err = os.Remove(filepath.Join(chains, e.Name()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// use notes that a layer is used now. It is no harm when that fails.
func (s *store) use(link string) {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, link, now, unix.AT_SYMLINK_NOFOLLOW)
}
