package flat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
)

var _ sandbox.Keeper = (*Driver)(nil)

// Kept implements sandbox.Keeper. Nothing is: a root ends with its build.
func (d *Driver) Kept(context.Context) ([]sandbox.Kept, error) { return nil, nil }

// Prune implements sandbox.Keeper. It removes the roots of killed builds, of any age.
func (d *Driver) Prune(ctx context.Context, _ time.Time) error {
	p, err := d.open()
	if err != nil {
		return err
	}
	roots := filepath.Join(p.dir, "roots")
	if _, err := os.Stat(roots); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	held, err := lock.Share(p.dir, func() error { return p.collect(ctx, roots) })
	if err != nil {
		return fmt.Errorf("prune roots: %w", err)
	}
	return held.Close()
}
