// Package inplace runs steps in the root filesystem of an ordinary container, which need not allow namespaces nor mounts: a
// root is extracted into a directory on the same filesystem, whose files are exchanged with the container's, by renaming, for as long as a
// step runs. So steps have the container's /proc, /sys and /dev, and whatever else is mounted.
//
// As steps could do what they like to the container's files, it works only in a container that says that it is
// disposable: by the file Marker, or because the user says so. It works on no host, whatever says so. One step runs at a time. What
// is different from other drivers, and what a step can reach, says docs/isolation.md.
package inplace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/flat"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/swap"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/unfit"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// Name is the driver's.
const Name = "inplace"

// Marker is the file by which an image says that its containers are disposable.
const Marker = "/gobuild/disposable"

// Options say where a driver keeps what.
type Options struct {
	// Dir is where roots are extracted, and the container's files put aside. It must be on the container's own
	// filesystem. It is made when it is missing.
	Dir string
	// Keep are absolute paths that stay in their places when files are exchanged, and which steps can therefore reach: all that this
	// process will open by name while steps run.
	Keep []string
	// Hide are absolute paths of files with credentials, which are in this process's memory alone while a step runs. When this process and
	// its child are killed at the same time, they are lost. What is a mount cannot be hidden.
	Hide []string
	// Disposable says that the container is, without the file Marker.
	Disposable bool
	// Indexes is given the index of each layer that is extracted, and asked for what layers say about files that a
	// step may have changed. It may be nil.
	Indexes rootfs.Indexes
	// Program is what children run; nil is this program. See sandbox.Program.
	Program *sandbox.Program
}

// Driver is the inplace driver. It is safe for concurrent use.
type Driver struct {
	*flat.Driver
	o       Options
	checked func() error // once
}

// New returns a driver. Nothing is made before it is used.
func New(o Options) *Driver {
	d := &Driver{o: o}
	d.checked = sync.OnceValue(d.check)
	s := &swap.Spec{Root: "/", State: filepath.Join(o.Dir, "state"), Keep: keep(o), Cover: kernels()}
	d.Driver = flat.New(flat.Options{
		Name: Name, Dir: o.Dir, Indexes: o.Indexes, Program: o.Program, Worker: worker.Bare, Bare: &process.Bare{Swap: s, Hide: o.Hide},
		Recover: d.recover,
	})
	return d
}

// kernels are where the kernel's filesystems are mounted.
func kernels() []string { return []string{"/proc", "/sys", "/dev"} }

// keep lists what is not put aside: the kernel's filesystems, the driver's own files, this program, so that it can be
// started again after it was killed, and what the user of this package needs.
func keep(o Options) []string {
	list := append(kernels(), filepath.Clean(o.Dir), Marker)
	if program, err := os.Executable(); err == nil {
		list = append(list, program)
	}
	for _, path := range o.Keep {
		if path = filepath.Clean(path); path != "/" && filepath.IsAbs(path) {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Probe implements sandbox.Driver. It puts right what a killed process has left, and exchanges files once.
func (d *Driver) Probe(ctx context.Context) error {
	if err := d.checked(); err != nil {
		return err
	}
	return d.Driver.Probe(ctx)
}

// Open implements sandbox.Driver.
func (d *Driver) Open(ctx context.Context, layers []v1.Layer) (sandbox.Root, error) {
	if err := d.checked(); err != nil {
		return nil, err
	}
	return d.Driver.Open(ctx, layers)
}

// check says why this driver may not be used here. Otherwise it sees to it that the container is as it was before any step.
func (d *Driver) check() error {
	if err := process.CheckBare(); err != nil {
		return err
	}
	if err := disposable(d.o.Disposable); err != nil {
		return err
	}
	if err := os.MkdirAll(d.state(), 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	return d.alone(func() error {
		if err := swap.Recover(d.state()); err != nil {
			return err
		}
		return sameFilesystem(d.state())
	})
}

// recover puts the container's files back if a process that had put them aside was killed.
func (d *Driver) recover() error {
	return d.alone(func() error { return swap.Recover(d.state()) })
}

// alone calls f while no step runs.
func (d *Driver) alone(f func() error) error {
	held, err := lock.Hold(filepath.Join(d.state(), "used"))
	if err != nil {
		return err
	}
	return errors.Join(f(), held.Close())
}

func (d *Driver) state() string { return filepath.Join(d.o.Dir, "state") }

// disposable returns nil in a container that says that it may be used up. A host that says so is not believed.
func disposable(said bool) error {
	const remedy = "use this driver in an ordinary container alone"
	mayMount, err := permittedMounts()
	if err != nil {
		return err
	}
	if mayMount {
		return &unfit.Error{Why: "this process may have CAP_SYS_ADMIN, so that this may be a host", Remedy: remedy}
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return fmt.Errorf("look for container: %w", err)
	}
	if ns == initialPIDNamespace {
		return &unfit.Error{Why: "this process sees all processes of the machine, so that this may be a host", Remedy: remedy}
	}
	if said {
		return nil
	}
	if fi, err := os.Lstat(Marker); err == nil && fi.Mode().IsRegular() {
		return nil
	}
	return &unfit.Error{
		Why:    "nothing says that this container is disposable",
		Remedy: "use gobuild's own image, or say --disposable-container if a build may use the container up",
	}
}

// initialPIDNamespace is the number that the kernel gives the first one, PROC_PID_INIT_INO.
const initialPIDNamespace = "pid:[4026531836]"

// permittedMounts reports whether this process, or one that it starts, may ever mount.
func permittedMounts() (bool, error) {
	n, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_ADMIN, 0, 0, 0)
	if err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	return n != 0, nil
}

// sameFilesystem tries to rename a file out of the root directory.
func sameFilesystem(dir string) error {
	f, err := os.CreateTemp("/", ".gobuild-*")
	if err != nil {
		return &unfit.Error{Why: fmt.Sprintf("the root directory cannot be written to (%v)", err), Remedy: "leave the container a writable root filesystem"}
	}
	f.Close()
	to := filepath.Join(dir, "probe")
	err = os.Rename(f.Name(), to)
	if err == nil {
		return os.Remove(to)
	}
	if errors.Is(err, unix.EXDEV) {
		err = &unfit.Error{Why: fmt.Sprintf("%q is not on the container's own filesystem", dir), Remedy: "give --work-dir a directory that is no volume"}
	}
	return errors.Join(err, os.Remove(f.Name()))
}
