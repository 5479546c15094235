package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
)

// Prune removes the extracted layers that no root was opened on since before, and what dead processes left
// behind. While any root is open, in whatever process, it does nothing.
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
