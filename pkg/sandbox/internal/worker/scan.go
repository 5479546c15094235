package worker

import (
	"context"
	"fmt"
	"os"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// ScanSpec says which directory is compared with which record. Record is a file, which is then that of the
// directory's present state.
type ScanSpec struct {
	Dir, Record string
	Options     diff.Options
	// Moved are files that are as they were, but for their time of change.
	Moved []diff.Moved
}

// Record scans a directory and writes the record to a file. Changes made after it has returned are sure to be
// seen.
func (w *Worker) Record(ctx context.Context, dir, file string) error {
	spec := ScanSpec{Dir: dir, Record: file, Options: diff.Options{OneOwner: w.squash}}
	if w.ids == nil {
		return record(ctx, spec)
	}
	p, err := w.helper(opRecord).Start(ctx)
	if err != nil {
		return err
	}
	if err := p.Send(spec); err != nil {
		return p.Fail(err)
	}
	return p.Finish()
}

func childRecord(c *child.Conn) error {
	var spec ScanSpec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	return record(context.Background(), spec)
}

func record(ctx context.Context, spec ScanSpec) error {
	r, err := diff.Scan(ctx, spec.Dir, spec.Options)
	if err != nil {
		return err
	}
	if err := writeRecord(r, spec.Record); err != nil {
		return err
	}
	return diff.Settle(ctx)
}

// Ask returns what the layers say about files. Entries are nil for those of which they do not know.
type Ask func(ctx context.Context, names []string) ([]*diff.Known, error)

// Compare returns what has changed in a directory since Record, or the last Compare. Renaming alone has set the times of
// moved, in this order; marks are of what is in the directory.
func (w *Worker) Compare(ctx context.Context, dir, file string, moved []diff.Moved, marks mark.Record, ask Ask) snapshot.Changes {
	spec := ScanSpec{dir, file, diff.Options{OneOwner: w.squash, Marks: marks}, moved}
	if w.ids != nil {
		return w.changesOf(ctx, opCompare, spec, func(p *child.Process) error {
			var names []string
			if err := p.Receive(&names); err != nil {
				return err
			}
			known, err := ask(ctx, names)
			if err != nil {
				return err
			}
			return p.Send(toWire(known))
		})
	}
	return func(yield func(snapshot.Change, error) bool) {
		changes, err := compare(ctx, spec, func(names []string) ([]*diff.Known, error) { return ask(ctx, names) })
		if err != nil {
			yield(snapshot.Change{}, err)
			return
		}
		changes(yield)
	}
}

// wireKnown is a diff.Known that may be missing.
type wireKnown struct {
	OK    bool
	Known diff.Known
}

func toWire(known []*diff.Known) []wireKnown {
	out := make([]wireKnown, len(known))
	for i, k := range known {
		if k != nil {
			out[i] = wireKnown{true, *k}
		}
	}
	return out
}

func fromWire(answer []wireKnown) []*diff.Known {
	out := make([]*diff.Known, len(answer))
	for i := range answer {
		if answer[i].OK {
			out[i] = &answer[i].Known
		}
	}
	return out
}

func childCompare(c *child.Conn) error {
	var spec ScanSpec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	changes, err := compare(context.Background(), spec, func(names []string) ([]*diff.Known, error) {
		if err := c.Send(names); err != nil {
			return nil, err
		}
		var answer []wireKnown
		if err := c.Receive(&answer); err != nil {
			return nil, err
		}
		return fromWire(answer), nil
	})
	if err != nil {
		return err
	}
	return diff.Encode(os.Stdout, changes)
}

// compare scans the directory, replaces its record, and returns the changes, which are still to be read.
func compare(ctx context.Context, spec ScanSpec, ask func([]string) ([]*diff.Known, error)) (snapshot.Changes, error) {
	before, err := readRecord(spec.Record)
	if err != nil {
		return nil, err
	}
	for _, moved := range spec.Moved {
		before.Adjust(moved)
	}
	after, err := diff.Scan(ctx, spec.Dir, spec.Options)
	if err != nil {
		return nil, err
	}
	doubtful, err := diff.Doubtful(spec.Dir, before, after)
	if err != nil {
		return nil, err
	}
	answers, err := ask(doubtful)
	if err != nil {
		return nil, fmt.Errorf("look up files in layers: %w", err)
	}
	if err := writeRecord(after, spec.Record); err != nil {
		return nil, err
	}
	if err := diff.Settle(ctx); err != nil {
		return nil, err
	}
	return diff.Compare(ctx, spec.Dir, before, after, knownBy(doubtful, answers), spec.Options), nil
}

// knownBy returns the answers about files by their names.
func knownBy(names []string, answers []*diff.Known) map[string]diff.Known {
	known := make(map[string]diff.Known, len(answers))
	for i, k := range answers {
		if k != nil {
			known[names[i]] = *k
		}
	}
	return known
}

// writeRecord replaces a record's file.
func writeRecord(r *diff.Record, name string) error {
	f, err := os.Create(name + ".new")
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	_, err = r.WriteTo(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

func readRecord(name string) (*diff.Record, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	defer f.Close()
	return diff.ReadRecord(f)
}
