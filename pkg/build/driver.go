package build

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/chroot"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/directory"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/inplace"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/overlay"
)

// drivers returns the sandbox drivers, best first (see the package sandbox for what each needs).
func (o Options) drivers(layersDir func(driver string) string, indexes rootfs.Indexes) []sandbox.Driver {
	return []sandbox.Driver{
		overlay.New(overlay.Options{Dir: layersDir("overlay"), Indexes: indexes, Program: o.StepProgram}),
		directory.New(directory.Options{Dir: layersDir("directory"), Indexes: indexes, Program: o.StepProgram}),
		inplace.New(inplace.Options{
			Dir: onRootFilesystem(layersDir("inplace")), Keep: o.openedByName(), Hide: o.PrivateFiles,
			Disposable: o.DisposableContainer, Indexes: indexes, Program: o.StepProgram,
		}),
		chroot.New(chroot.Options{Dir: layersDir("chroot"), Indexes: indexes, Program: o.StepProgram}),
	}
}

// onRootFilesystem returns dir or, if that is on a volume, a directory that is on the container's own filesystem.
func onRootFilesystem(dir string) string {
	root, err := os.Stat("/")
	if err != nil {
		return dir // the driver will tell
	}
	for at := dir; ; at = filepath.Dir(at) {
		fi, err := os.Stat(at)
		switch {
		case err != nil && at != "/":
			continue
		case err == nil && fi.Sys().(*syscall.Stat_t).Dev == root.Sys().(*syscall.Stat_t).Dev:
			return dir
		}
		return "/.gobuild"
	}
}

// openedByName lists the files that a build opens while steps run.
func (o Options) openedByName() []string {
	list := []string{o.WorkDir}
	for _, name := range append(slices.Collect(maps.Values(o.Contexts)), o.Context, o.ContextDir, o.Dockerfile) {
		if path, err := filepath.Abs(name); err == nil && name != "" && exists(path) {
			list = append(list, path)
		}
	}
	for _, sockets := range o.SSH {
		list = append(list, sockets...)
	}
	return list
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkIsolation refuses a driver that does not exist before anything is done for a build that would need it.
func (o Options) checkIsolation() error {
	list := o.Drivers
	if list == nil {
		list = o.drivers(func(driver string) string { return driver }, nil)
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

// driver chooses the sandbox for RUN from list.
func (o Options) driver(ctx context.Context, list []sandbox.Driver) (sandbox.Driver, error) {
	d, err := sandbox.Select(ctx, list, o.Isolation)
	if err == nil && d.Name() == inplace.Name {
		o.readSecrets(ctx)
		err = o.identify(ctx)
	}
	return d, err
}

// identify lets the client find credentials for what is pushed while the files that they are in can be read, which they
// cannot while a step runs in the container's own root.
func (o Options) identify(ctx context.Context) error {
	if o.Registry == nil {
		return nil
	}
	for _, ref := range o.Destinations {
		if err := o.Registry.Identify(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}
