package worker

import (
	"context"
	"fmt"
	"os"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// UpperSpec says of which directories changes are wanted.
type UpperSpec struct {
	Upper   string
	Lower   union.View
	Options diff.Options
}

// Upper returns what the upper directory of an overlay changes in the directories below it. marks are of what is in it.
func (w *Worker) Upper(ctx context.Context, upper string, lower []string, marks mark.Record) snapshot.Changes {
	spec := UpperSpec{upper, union.View{Dirs: lower, UserXattr: w.userXattr}, diff.Options{OneOwner: w.squash, Marks: marks}}
	if w.ids == nil {
		return diff.Upper(ctx, spec.Upper, &spec.Lower, spec.Options)
	}
	return w.changesOf(ctx, opUpper, spec, func(*child.Process) error { return nil })
}

// changesOf returns the changes that a child finds. talk is called when it has its spec.
func (w *Worker) changesOf(ctx context.Context, op string, spec any, talk func(*child.Process) error) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		here, fromChild, err := os.Pipe()
		if err != nil {
			yield(snapshot.Change{}, fmt.Errorf("read changes: %w", err))
			return
		}
		defer here.Close()
		command := w.helper(op)
		command.Stdout = fromChild
		p, err := command.Start(ctx)
		fromChild.Close()
		if err != nil {
			yield(snapshot.Change{}, err)
			return
		}
		if err = p.Send(spec); err == nil {
			err = talk(p)
		}
		if err != nil {
			yield(snapshot.Change{}, p.Fail(err))
			return
		}
		diff.Decode(here, func(err error) error {
			if err == nil {
				return p.Finish()
			}
			return p.Fail(err)
		})(yield)
	}
}

func childUpper(c *child.Conn) error {
	var spec UpperSpec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	return diff.Encode(os.Stdout, diff.Upper(context.Background(), spec.Upper, &spec.Lower, spec.Options))
}
