package overlay

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/unfit"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// Limits implements sandbox.Limited.
func (d *Driver) Limits() string {
	s, err := d.open()
	if err != nil {
		return ""
	}
	return s.worker.Limits()
}

// Likely implements sandbox.Eager: it is so for those who may mount as they are, outside of containers.
func (d *Driver) Likely() bool {
	s, err := d.open()
	return err == nil && !s.worker.Namespaced() && !onOverlay(filepath.Dir(s.dir))
}

func onOverlay(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// Probe implements sandbox.Driver. It mounts an empty root with all that steps find in it, where roots will lie.
func (d *Driver) Probe(ctx context.Context) error {
	s, err := d.open()
	if err != nil {
		return err
	}
	r, err := newRoot(ctx, d, s)
	if err != nil {
		return err
	}
	defer r.Close()
	spec, err := r.spec()
	if err != nil {
		return err
	}
	spec.Probe = true
	spec.Hostname = "probe"
	if _, err = s.worker.Run(ctx, &spec, nil, nil); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return explain(s, err)
}

// explain says what keeps a mount from working and what would help.
func explain(s *store, err error) error {
	if hint := worker.Hint(s.worker, err); hint != nil {
		return hint
	}
	if onOverlay(s.dir) {
		return &unfit.Error{
			Why: "overlayfs cannot have its upper directory on overlayfs", Remedy: "give --work-dir a directory on a volume",
		}
	}
	if errors.Is(err, unix.ENODEV) && strings.Contains(err.Error(), "overlay") {
		return &unfit.Error{Why: "this kernel has no overlayfs", Remedy: "load the module overlay"}
	}
	return fmt.Errorf("cannot mount an overlay in %s: %w", s.dir, err)
}
