package build

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/directory"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/overlay"
)

// drivers returns the sandbox drivers, best first (see the package sandbox for what each needs).
func drivers(layersDir func(driver string) string, indexes rootfs.Indexes) []sandbox.Driver {
	return []sandbox.Driver{
		overlay.New(overlay.Options{Dir: layersDir("overlay"), Indexes: indexes}),
		directory.New(directory.Options{Dir: layersDir("directory"), Indexes: indexes}),
	}
}

// checkIsolation refuses a driver that does not exist before anything is done for a build that would need it.
func (o Options) checkIsolation() error {
	list := o.Drivers
	if list == nil {
		list = drivers(func(driver string) string { return driver }, nil)
	}
	names := []string{sandbox.Auto}
	for _, d := range list {
		names = append(names, d.Name())
	}
	if !slices.Contains(names, o.Isolation) {
		return fmt.Errorf("select isolation: unknown %q: want %s", o.Isolation, strings.Join(names, ", "))
	}
	return nil
}

// driver chooses the sandbox for RUN.
func (o Options) driver(ctx context.Context, store *local.Store) (sandbox.Driver, error) {
	list := o.Drivers
	if list == nil {
		list = drivers(store.LayersDir, store)
	}
	return sandbox.Select(ctx, list, o.Isolation)
}

// Check is what one sandbox driver says of the place that it is in.
type Check struct {
	Driver string
	// Err is nil if the driver works here, and otherwise says why not and what would help.
	Err error
}

// Doctor asks all drivers, best first, whether they work with workDir; empty is the default one.
func Doctor(ctx context.Context, workDir string) ([]Check, error) {
	o, err := Options{WorkDir: workDir}.withDefaults()
	if err != nil {
		return nil, err
	}
	store, err := local.Open(ctx, o.WorkDir)
	if err != nil {
		return nil, err
	}
	var checks []Check
	for _, d := range drivers(store.LayersDir, store) {
		checks = append(checks, Check{d.Name(), d.Probe(ctx)})
	}
	return checks, store.Close()
}
