// Package sandbox opens root filesystems from layers, runs processes in them, and tells what
// changed. Each driver in a folder below does so in its own way; see Select.
package sandbox

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Driver makes roots. Implementations are safe for concurrent use.
type Driver interface {
	// Name is what --isolation takes.
	Name() string
	// Probe returns nil when the driver works here, and otherwise an error of one sentence that says why
	// not and what would help. It leaves nothing behind.
	Probe(ctx context.Context) error
	// Roots is how many roots may be open at once; 0 is no limit.
	Roots() int
	// Open makes a root of layers, the lowest first. It is the only place that extracts; what other
	// roots or earlier builds have extracted is used again. The caller closes the root.
	Open(ctx context.Context, layers []v1.Layer) (Root, error)
}

// Eager is implemented by drivers that can open roots while it is still being found out whether they work.
type Eager interface {
	// Likely reports, at next to no cost, that Probe will most likely return nil. It is no promise.
	Likely() bool
}

// Limited is implemented by drivers that may work less well in one place than in another.
type Limited interface {
	// Limits says in one clause what steps lack here and what would help, or is "". It is known after Probe.
	Limits() string
}

// Root is a root filesystem on which steps work, one after another. Its methods are called
// from one goroutine at a time, except where said.
type Root interface {
	// Run runs p to its end and ends whatever p left running. A process that exits with another
	// status than zero gives an *ExitError. When ctx is done everything that p started is killed, and the error is
	// context.Cause(ctx). After an error the root can only be closed.
	Run(ctx context.Context, p Process) error

	// Changes ends the layer that Run calls since Open or the last Changes made, and returns what it
	// changed. The sequence may be consumed while later methods are called; a driver that cannot do
	// both lets the later call wait until the sequence has been consumed or abandoned. Owners
	// in the headers are those the image should have. The contents of a file must be read before
	// the next change is asked for.
	Changes(ctx context.Context) snapshot.Changes

	// Commit says, once for each Changes and in their order, and without waiting for later ones, whose sequences
	// may wait for it, which layer they became, so that a later
	// Open of a stack with that layer need not extract it; nil says that they were no change. It may be called from
	// another goroutine, while other methods run.
	Commit(layer v1.Layer)

	// Add puts a layer that was made elsewhere on top.
	Add(ctx context.Context, layer v1.Layer) error

	// Close unmounts and removes the root. What was committed may be kept for later. It may be called again.
	Close() error
}

// Network says which network a process sees.
type Network uint8

const (
	// NetworkHost is the network of the builder, the default.
	NetworkHost Network = iota
	// NetworkNone is a loopback interface alone.
	NetworkNone
)

// Process is what a step runs.
type Process struct {
	// Args is the program and its arguments. A program without a slash is looked up in PATH of Env,
	// inside the root.
	Args []string
	// Env holds KEY=value pairs. HOME is added from the root's /etc/passwd when it is missing.
	Env []string
	// Dir is the absolute working directory inside the root; it is made, with mode 0755, when it is missing.
	Dir string
	// User is "user", "uid", "user:group" and so on, as USER takes it; names are looked up in the root's
	// /etc/passwd and /etc/group, whose supplementary groups apply. Empty is root.
	User string
	// Hostname is "buildkitsandbox" when empty.
	Hostname string
	Network  Network
	// Hosts are further lines of /etc/hosts: an address, a blank, and a name.
	Hosts []string
	// Insecure gives the process all capabilities that the builder has, and the builder's devices; nothing in /proc and
	// /sys is hidden from it or read-only. In a user namespace the capabilities are those of the namespace, and what
	// the builder's user may not open or write stays closed to the process.
	Insecure bool
	// Devices are absolute paths of device nodes of the builder that the process sees under the same path. Links in them are
	// followed outside the root. They are mounted before Mounts.
	Devices []string
	// Mounts are shown to the process on top of the root, in this order, after all else that is mounted. What it writes
	// there is not part of its changes, nor are stubs that had to be made to mount on, unless the process puts something
	// in them; directories keep the times that they had before stubs were made and removed in them.
	Mounts []Mount
	// Files are shown to the process read-only, and are not part of its changes. Nor are stubs
	// that had to be made to mount something on.
	Files []File
	// Stdout and Stderr receive output as it is written. They are not used concurrently with each other.
	Stdout, Stderr io.Writer
}

// File is a small file that a process sees at Path.
type File struct {
	Path string // absolute, inside the root
	Mode int64  // permission bits
	Data []byte
}

// Mount is one thing that a process sees at Target instead of what the root has there.
type Mount struct {
	// Target is absolute, inside the root; links in it, the last component included, are followed inside the root. What
	// is missing is made: directories with mode 0755. It is neither the root itself nor in /proc.
	Target string
	// ReadOnly keeps the process from writing; there is no way for it to change that. Nothing can be mounted where stubs
	// would have to be made on a read-only mount.
	ReadOnly bool
	Source   MountSource
}

// MountSource is what is mounted: one of BindSource, HostSource, CacheSource, TmpfsSource, FileSource and SocketSource.
//
// Owners are those that the process sees. Where there is but one owner they are not looked at: files have that one, and so
// has the process.
type MountSource interface{ mountSource() }

type (
	// BindSource is a file or a directory of another root.
	BindSource struct {
		// Root is another one that the same driver has opened. It is used by this process alone as long as the process
		// runs, unless the mount is read-only: then any number of processes may have it, also while its changes are
		// being read or committed. What a process writes to it is kept until it is closed and seen in all mounts of it
		// that the process has, but never gets into what the driver keeps of its layers.
		Root Root
		// Path is absolute, inside Root. Links in it are followed inside Root and never lead out of it. When it does not
		// exist the error of Run wraps fs.ErrNotExist and says "path": not found.
		Path string
	}

	// HostSource is a file or a directory of the builder, which the user of the builder can reach. Unless the mount is
	// read-only the process may write to it.
	HostSource struct {
		Path string // absolute; when it does not exist the error of Run wraps fs.ErrNotExist
	}

	// CacheSource is a directory of the builder that outlives the build.
	CacheSource struct {
		// Dir is absolute, exists, is this user's own, and all that is in it belongs to the drivers. A cache is prepared in it on
		// first use and is there only when it is complete, whatever is killed meanwhile. Processes may use it at once,
		// and prepare it at once: one does, the others wait.
		//
		// Different drivers share what is in it; different users, and ways to map ids, do not: each of them begins with
		// a cache of its own.
		Dir string
		// Path is absolute, inside the cache: the part of it that is mounted. Directories of it that are missing are made;
		// links in it do not lead out of the cache.
		Path string
		// Seed is what the cache begins as: the directory or file with all its attributes. Its Root is nil for an empty
		// directory with owner UID:GID and mode Mode. It is not used when the cache is prepared; see CacheKeeper.
		Seed     BindSource
		UID, GID int
		Mode     int64 // permission bits
	}

	// TmpfsSource is a filesystem in memory that ends with the process. Its mode is that of the directory that it
	// covers, and 1777 when there was none; it belongs to root.
	TmpfsSource struct {
		Size int64 // in bytes; 0 is no limit
	}

	// FileSource is a file, in memory, whose contents no disk sees. It is always read-only.
	FileSource struct {
		Data     []byte
		UID, GID int
		Mode     int64 // permission bits
	}

	// SocketSource is a listening Unix socket of the builder. The socket itself is given owner and mode, so that it is
	// one that the caller made for this mount, in a directory that only this user can enter.
	SocketSource struct {
		Path     string // absolute, outside the root
		UID, GID int
		Mode     int64 // permission bits
	}
)

func (BindSource) mountSource()   {}
func (HostSource) mountSource()   {}
func (CacheSource) mountSource()  {}
func (TmpfsSource) mountSource()  {}
func (FileSource) mountSource()   {}
func (SocketSource) mountSource() {}

// ExitError says that a process ended with a status other than zero.
type ExitError struct {
	// Code is the exit status; 128 + n when signal n ended the process.
	Code int
}

func (e *ExitError) Error() string { return fmt.Sprintf("exit code: %d", e.Code) }
