package sandbox

import (
	"maps"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// Init must be called first thing in main, and in TestMain, of every program that uses a driver: drivers execute
// the program again to work in other namespaces. In such a child Init does the work and exits; everywhere else it
// returns at once.
func Init() {
	ops := map[string]child.Op{process.Op: process.Child, process.BareOp: process.BareChild}
	maps.Copy(ops, worker.Children())
	child.Main(ops)
}
