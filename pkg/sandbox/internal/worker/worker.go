// Package worker does what drivers need privileges for: in this process when it has them, and otherwise in
// children with a user namespace of their own.
package worker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/idmap"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
)

// Worker does the privileged work of a driver. It is safe for concurrent use.
type Worker struct {
	program   *child.Program
	ids       *idmap.Map
	squash    bool
	userXattr bool
	bare      bool
	limits    atomic.Pointer[string]
}

// Bare is a worker whose steps run without namespaces. They see this process, so that it is made one into which nobody can
// look who lacks CAP_SYS_PTRACE.
func Bare(_ string, program *child.Program) (*Worker, error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("protect process: %w", err)
	}
	return &Worker{program: program, userXattr: true, bare: true}, nil
}

// New finds out what this process may do by itself. dir is where roots will lie, and program what children run; see child.Command.
func New(dir string, program *child.Program) (*Worker, error) {
	ids, err := idmap.Find()
	if err != nil {
		return nil, err
	}
	if ids != nil {
		return &Worker{program: program, ids: ids, squash: ids.Single(), userXattr: true}, nil
	}
	w := &Worker{program: program}
	if w.squash, err = idmap.Squashed(); err != nil {
		return nil, err
	}
	if w.userXattr, err = lacksTrusted(dir); err != nil {
		return nil, err
	}
	return w, nil
}

// lacksTrusted reports whether this process may not set trusted attributes, as in a user namespace.
func lacksTrusted(dir string) (bool, error) {
	f, err := os.CreateTemp(dir, "xattr-*")
	if err != nil {
		return false, fmt.Errorf("try attributes: %w", err)
	}
	defer f.Close()
	lacks := unix.Fsetxattr(int(f.Fd()), union.OpaqueXattr(false), []byte{'y'}, 0) != nil
	return lacks, os.Remove(f.Name())
}

// Squash reports whether all files have one owner, so that the owners that images should have are not on
// disk.
func (w *Worker) Squash() bool { return w.squash }

// Limits says what steps lack here that they have elsewhere, as far as a probe has found out.
func (w *Worker) Limits() string {
	if found := w.limits.Load(); found != nil {
		return *found
	}
	return ""
}

// UserXattr reports whether overlayfs has to use user attributes.
func (w *Worker) UserXattr() bool { return w.userXattr }

// Namespaced reports whether the worker needs user namespaces.
func (w *Worker) Namespaced() bool { return w.ids != nil }

// Variant names the form in which this worker leaves files, which other workers cannot use.
func (w *Worker) Variant() string {
	switch {
	case w.bare:
		return "root" // as root leaves them where it may mount
	case w.squash:
		return "one-id"
	case w.ids != nil:
		first := w.ids.UIDs[len(w.ids.UIDs)-1]
		return fmt.Sprintf("ids-%d-%d", first.HostID, first.Size)
	case w.userXattr:
		return "user"
	}
	return "root"
}

// Names of the children's operations.
const (
	opExtract = "extract"
	opUpper   = "upper"
	opRemove  = "remove"
	opRecord  = "record"
	opCompare = "compare"

	opReadCache = "read-cache"
	opRename    = "rename"
)

// Children are the operations that a worker's children do.
func Children() map[string]child.Op {
	return map[string]child.Op{
		opExtract: childExtract, opUpper: childUpper, opRemove: childRemove,
		opRecord: childRecord, opCompare: childCompare,
		opReadCache: childReadCache, opRename: childRename,
	}
}

// Remove removes files and directories whatever their modes and owners.
func (w *Worker) Remove(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if w.ids == nil {
		return removeAll(paths)
	}
	if os.Geteuid() == 0 && removeAll(paths) == nil {
		return nil // root needs no namespace for its own files, and may not be able to have one
	}
	p, err := w.helper(opRemove).Start(ctx)
	if err != nil {
		return err
	}
	if err := p.Send(paths); err != nil {
		return p.Fail(err)
	}
	return p.Finish()
}

// helper is a child that works on files with all ids that there are.
func (w *Worker) helper(op string) child.Command {
	return child.Command{Op: op, Program: w.program, IDs: w.ids, Namespaces: unix.CLONE_NEWNS}
}

func childRemove(c *child.Conn) error {
	var paths []string
	if err := c.Receive(&paths); err != nil {
		return err
	}
	return removeAll(paths)
}

func removeAll(paths []string) error {
	for _, path := range paths {
		if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			return fmt.Errorf("remove %q: not a path that may be removed", path)
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove directory: %w", err)
		}
	}
	return nil
}
