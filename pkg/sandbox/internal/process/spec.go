// Package process runs a step: it is the first process of the step's PID namespace, makes the step's view of the
// system by mounts of its own, starts the program, reaps what it leaves behind and kills the rest.
package process

import (
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/swap"
)

// Op and BareOp are the names of the children's operations.
const (
	Op     = "run"
	BareOp = "run-bare"
)

// Spec is what the child is told to do.
type Spec struct {
	// Mount is an empty directory on which the root is mounted, Box another one: what is to be mounted in the root is
	// prepared there.
	Mount, Box string
	Root       Tree

	Args, Env []string
	Dir, User string
	Hostname  string
	// Network says that the process has a network namespace of its own.
	Network bool
	// Insecure leaves the process the capabilities of this one, and gives it the builder's devices.
	Insecure bool
	// Trees are other roots, parts of which are mounted.
	Trees []Tree
	// Mounts are mounted in their order.
	Mounts []Mount
	// UserXattr says that overlays keep what they need in user attributes, OneOwner that files can have but one owner.
	UserXattr, OneOwner bool
	// Special has the owners, by their paths from the root, of files that cannot bear a mark, and Table those of files that have
	// been in this root before.
	Special map[string]mark.Owner
	Table   mark.Table
	// Hosts says that the file that is mounted on /etc/hosts has more in it than the usual.
	Hosts bool
	// Probe asks only for the mounts.
	Probe bool
	// Bare says that there are no namespaces and no mounts. The trees are directories then, on the filesystem of the
	// root and of Box.
	Bare *Bare
}

// Bare says how a step enters its root where there are no mounts.
type Bare struct {
	// Swap exchanges the files of the root with those of this process's own root; its Stage is filled in. When it is nil the step enters its
	// root by chroot.
	Swap *swap.Spec
	// Hide are files of this process's own root that are removed, and put back after the step.
	Hide []string
}

// Tree is a tree of files: the directory Dir as it is or, when that is empty, an overlay.
type Tree struct {
	Dir     string
	Overlay Overlay
}

// Overlay is a tree in layers.
type Overlay struct {
	// Dir is where the names of the other directories start. Short names let many of them fit in the page
	// that a mount's options may have.
	Dir string
	// Lower are the directories below, the topmost first.
	Lower []string
	// Upper and Work are empty when the tree is only read; there are two directories in Lower then, at least.
	Upper, Work string
}

// Mount is one thing that the process sees at Target. What it is says the one pointer that is not nil.
type Mount struct {
	Target   string
	ReadOnly bool

	Bind   *Part
	Host   *Host
	Cache  *Cache
	Tmpfs  *Tmpfs
	File   *File
	Socket *Socket
	Device *Device
}

type (
	// Part is a file or directory of one of a spec's trees.
	Part struct {
		Tree int
		Path string
	}

	// Host is a file or directory of the builder's.
	Host struct {
		Path string
	}

	// Cache is a part of a cache, which is made when it is missing.
	Cache struct {
		Dir, Path string
		// Seed is nil when the cache begins empty, with this owner and mode.
		Seed     *Part
		UID, GID int
		Mode     int64
	}

	// Tmpfs is an empty directory in memory.
	Tmpfs struct {
		Size int64 // in bytes; 0 is no limit
	}

	// File is a small file in memory. It is always read-only.
	File struct {
		Data     []byte
		UID, GID int
		Mode     int64
		// Secret says that no disk may see the data, if there is a way.
		Secret bool
	}

	// Socket is a socket of the builder's, which is given an owner and a mode.
	Socket struct {
		Path     string
		UID, GID int
		Mode     int64
	}

	// Device is a device node of the builder's.
	Device struct {
		Path string
	}
)

// Result is the child's answer.
type Result struct {
	// Code is the program's exit status, or 128 + n when signal n ended it.
	Code int
	// Reason says why the program was not started; Code is 126 or 127 then.
	Reason string
	// Limits says, to Probe, what steps lack here that they have elsewhere.
	Limits string
	// Owners says what the step has done about owners, where there is but one.
	Owners mark.Record
	// Moved are files of the root that the step has not touched, although their time of change is another one.
	Moved diff.Moved
}
