// Package directory runs steps in plain directories: all layers of a root are extracted into one directory,
// and what a step has changed is found by comparing it with a record of what was there before.
//
// It needs no overlayfs, and so works where that cannot have its upper directory, as on the root filesystem of a
// container; but it needs to make mounts, as root or in a user namespace.
package directory

import (
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/flat"
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

// Driver is the directory driver. It is safe for concurrent use.
type Driver struct{ *flat.Driver }

// New returns a driver. Nothing is made before it is used.
func New(o Options) *Driver {
	return &Driver{flat.New(flat.Options{Name: "directory", Dir: o.Dir, Indexes: o.Indexes, Program: o.Program, Worker: worker.New})}
}
