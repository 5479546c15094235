// Package chroot runs steps in plain directories, as the package directory does, where neither namespaces nor mounts
// are allowed: a step enters its root by chroot(2) alone. It needs the capabilities that container engines give by
// default, and does not touch the files of the container that it is in.
//
// A step has no /proc and no /sys, and a /dev of the nodes that the container may make. It shares the process list and the network of
// the builder. Root's processes are kept inside by Landlock where the kernel has it, and otherwise by not having
// CAP_SYS_CHROOT; they cannot see or trace the builder's. See docs/isolation.md for what else is different.
package chroot

import (
	"context"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/flat"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// Options say where a driver keeps what.
type Options struct {
	// Dir is where roots are extracted. It is made when it is missing. Several processes may use it at
	// once.
	Dir string
	// Indexes is given the index of each layer that is extracted, and asked for what layers say about files that a
	// step may have changed. It may be nil.
	Indexes rootfs.Indexes
	// Program is what children run; nil is this program. See sandbox.Program.
	Program *sandbox.Program
}

// Driver is the chroot driver. It is safe for concurrent use.
type Driver struct{ *flat.Driver }

// New returns a driver. Nothing is made before it is used.
func New(o Options) *Driver {
	return &Driver{flat.New(flat.Options{
		Name: "chroot", Dir: o.Dir, Indexes: o.Indexes, Program: o.Program, Worker: worker.Bare, Bare: &process.Bare{},
	})}
}

// Probe implements sandbox.Driver.
func (d *Driver) Probe(ctx context.Context) error {
	if err := process.CheckBare(); err != nil {
		return err
	}
	return d.Driver.Probe(ctx)
}
