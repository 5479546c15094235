// Package lock keeps processes apart that may not do something at once, such as using a directory and cleaning it.
package lock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Share holds dir until the returned file is closed, or the process dies. When nobody else holds it,
// collect is called first, alone, to remove what dead processes left behind.
func Share(dir string, collect func() error) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock directory: %w", err)
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = collect()
	} else if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil
	}
	if err == nil {
		err = flock(f, unix.LOCK_SH)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock directory %q: %w", dir, err)
	}
	return f, nil
}

// Hold waits until nobody else holds file, which is made when it is missing, and holds it until the returned file is
// closed, or the process dies.
func Hold(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock file %q: %w", file, err)
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
