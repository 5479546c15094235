// Package worker does what drivers need privileges for: in this process when it has them, and otherwise in
// children with a user namespace of their own.
package worker

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/extract"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/idmap"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Worker does the privileged work of a driver. It is safe for concurrent use.
type Worker struct {
	ids       *idmap.Map
	squash    bool
	userXattr bool
}

// New finds out what this process may do by itself. dir is where roots will lie.
func New(dir string) (*Worker, error) {
	ids, err := idmap.Find()
	if err != nil {
		return nil, err
	}
	if ids != nil {
		return &Worker{ids: ids, squash: ids.Single(), userXattr: true}, nil
	}
	w := &Worker{}
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
	defer os.Remove(f.Name())
	defer f.Close()
	return unix.Fsetxattr(int(f.Fd()), union.OpaqueXattr(false), []byte{'y'}, 0) != nil, nil
}

// Squash reports whether all files have one owner, so that the owners that images should have are not on
// disk.
func (w *Worker) Squash() bool { return w.squash }

// UserXattr reports whether overlayfs has to use user attributes.
func (w *Worker) UserXattr() bool { return w.userXattr }

// Namespaced reports whether the worker needs user namespaces.
func (w *Worker) Namespaced() bool { return w.ids != nil }

// Variant names the form in which this worker leaves files, which other workers cannot use.
func (w *Worker) Variant() string {
	switch {
	case w.squash:
		return "one-owner"
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
)

// Children are the operations that a worker's children do.
func Children() map[string]child.Op {
	return map[string]child.Op{opExtract: childExtract, opUpper: childUpper, opRemove: childRemove}
}

// ExtractSpec says how a layer is to be extracted.
type ExtractSpec struct {
	Dir     string
	Options extract.Options
}

// Extract writes an uncompressed layer to spec.Dir, which exists, and returns its index. lower is called at
// most once, at the end, when something in the layer depends on the layers below.
func (w *Worker) Extract(ctx context.Context, layer io.Reader, dir string, flat bool, lower func() (*union.View, error)) (*rootfs.Index, error) {
	spec := ExtractSpec{dir, extract.Options{Flat: flat, UserXattr: w.userXattr, Squash: w.squash}}
	if w.ids != nil {
		return w.extractInChild(ctx, layer, spec, lower)
	}
	x, err := extract.New(dir, spec.Options)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	index, err := rootfs.ReadIndex(layer, func(rec *rootfs.Record, body io.Reader) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return x.Entry(&rec.Header, body)
	})
	if err != nil {
		return nil, err
	}
	var below *union.View
	if x.Unsettled() {
		if below, err = lower(); err != nil {
			return nil, err
		}
	}
	return index, x.Finish(below)
}

func (w *Worker) extractInChild(ctx context.Context, layer io.Reader, spec ExtractSpec, lower func() (*union.View, error)) (*rootfs.Index, error) {
	// The child takes the layer apart for the files, this process for the index.
	toChild, fromHere, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("extract layer: %w", err)
	}
	p, err := child.Command{Op: opExtract, IDs: w.ids, Namespaces: unix.CLONE_NEWNS, Stdin: toChild}.Start(ctx)
	toChild.Close()
	if err != nil {
		fromHere.Close()
		return nil, err
	}
	index, err := talk(p, layer, fromHere, spec, lower)
	if err != nil {
		fromHere.Close()
		p.Kill()
		if childErr := p.Finish(); childErr != nil && p.Reported() {
			err = childErr
		}
		return nil, err
	}
	return index, p.Finish()
}

func talk(p *child.Process, layer io.Reader, to *os.File, spec ExtractSpec, lower func() (*union.View, error)) (*rootfs.Index, error) {
	if err := p.Send(spec); err != nil {
		return nil, err
	}
	index, err := rootfs.ReadIndex(io.TeeReader(layer, to), nil)
	if err != nil {
		return nil, err
	}
	if err := to.Close(); err != nil {
		return nil, fmt.Errorf("extract layer: %w", err)
	}
	var unsettled bool
	if err := p.Receive(&unsettled); err != nil || !unsettled {
		return index, err
	}
	below, err := lower()
	if err != nil {
		return nil, err
	}
	return index, p.Send(below)
}

func childExtract(c *child.Conn) error {
	var spec ExtractSpec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	x, err := extract.New(spec.Dir, spec.Options)
	if err != nil {
		return err
	}
	if err := x.Layer(context.Background(), os.Stdin); err != nil {
		return err
	}
	// Padding after the end of the archive is part of the layer.
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	if err := c.Send(x.Unsettled()); err != nil {
		return err
	}
	var below *union.View
	if x.Unsettled() {
		if err := c.Receive(&below); err != nil {
			return err
		}
	}
	return x.Finish(below)
}

// UpperSpec says of which directories changes are wanted.
type UpperSpec struct {
	Upper   string
	Lower   union.View
	Options diff.Options
}

// Upper returns what the upper directory of an overlay changes in the directories below it.
func (w *Worker) Upper(ctx context.Context, upper string, lower []string) snapshot.Changes {
	spec := UpperSpec{upper, union.View{Dirs: lower, UserXattr: w.userXattr}, diff.Options{MarkExisting: w.squash}}
	if w.ids == nil {
		return diff.Upper(ctx, spec.Upper, &spec.Lower, spec.Options)
	}
	return w.changesOf(ctx, opUpper, spec)
}

// changesOf returns the changes that a child finds.
func (w *Worker) changesOf(ctx context.Context, op string, spec any) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		here, fromChild, err := os.Pipe()
		if err != nil {
			yield(snapshot.Change{}, fmt.Errorf("read changes: %w", err))
			return
		}
		defer here.Close()
		p, err := child.Command{Op: op, IDs: w.ids, Namespaces: unix.CLONE_NEWNS, Stdout: fromChild}.Start(ctx)
		fromChild.Close()
		if err != nil {
			yield(snapshot.Change{}, err)
			return
		}
		if err := p.Send(spec); err != nil {
			p.Kill()
			yield(snapshot.Change{}, errorsFirst(p.Finish(), err))
			return
		}
		diff.Decode(here, func(err error) error {
			if err == nil {
				return p.Finish()
			}
			p.Kill()
			if childErr := p.Finish(); childErr != nil && p.Reported() {
				return childErr
			}
			return err
		})(yield)
	}
}

func errorsFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func childUpper(c *child.Conn) error {
	var spec UpperSpec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	return diff.Encode(os.Stdout, diff.Upper(context.Background(), spec.Upper, &spec.Lower, spec.Options))
}

// Remove removes files and directories whatever their modes and owners.
func (w *Worker) Remove(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if w.ids == nil {
		return removeAll(paths)
	}
	p, err := child.Command{Op: opRemove, IDs: w.ids, Namespaces: unix.CLONE_NEWNS}.Start(ctx)
	if err != nil {
		return err
	}
	if err := p.Send(paths); err != nil {
		p.Kill()
		return errorsFirst(p.Finish(), err)
	}
	return p.Finish()
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
