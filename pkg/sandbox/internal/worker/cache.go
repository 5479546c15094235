package worker

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// CacheSpec says what of a cache is to be read: what has changed in the directory Name of Dir since the record in the file
// Before, or everything when that is "". The record of the present state is written to the file After.
type CacheSpec struct {
	Dir, Name     string
	Before, After string
	// OneOwner says that files can have but one owner on disk. ReadCache fills it in.
	OneOwner bool
	// Base, when not nil, says that the changes are to be those to these files, and Touched which of them are others in the
	// layers that Before is the record of. Both have paths from Dir.
	Base    []diff.File
	Touched []string
}

// CacheFound is what is known of a cache before it is read.
type CacheFound struct {
	Size int64 // of all files, in bytes
	// Doubtful are paths, from CacheSpec.Dir, of files that may be what they were.
	Doubtful []string
}

// AskCache is like Ask. An error of it is that of the stream.
type AskCache func(ctx context.Context, f CacheFound) ([]*diff.Known, error)

// ReadCache returns what has changed in a cache. Paths begin with spec.Name.
func (w *Worker) ReadCache(ctx context.Context, spec CacheSpec, ask AskCache) snapshot.Changes {
	spec.OneOwner = w.squash
	if w.ids != nil {
		return w.changesOf(ctx, opReadCache, spec, func(p *child.Process) error {
			var found CacheFound
			if err := p.Receive(&found); err != nil {
				return err
			}
			known, err := ask(ctx, found)
			if err != nil {
				return err
			}
			return p.Send(toWire(known))
		})
	}
	return func(yield func(snapshot.Change, error) bool) {
		changes, err := readCache(ctx, spec, func(f CacheFound) ([]*diff.Known, error) { return ask(ctx, f) })
		if err != nil {
			yield(snapshot.Change{}, err)
			return
		}
		changes(yield)
	}
}

func childReadCache(c *child.Conn) error {
	var spec CacheSpec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	changes, err := readCache(context.Background(), spec, func(f CacheFound) ([]*diff.Known, error) {
		if err := c.Send(f); err != nil {
			return nil, err
		}
		var answer []wireKnown
		err := c.Receive(&answer)
		return fromWire(answer), err
	})
	if err != nil {
		return err
	}
	return diff.Encode(os.Stdout, changes)
}

// recordBefore is what the present state is compared with.
func recordBefore(spec CacheSpec) (*diff.Record, error) {
	if spec.Before == "" {
		return diff.None(), nil
	}
	r, err := readRecord(spec.Before)
	if err != nil {
		return nil, err
	}
	r = r.In(spec.Name)
	if spec.Base == nil {
		return r, nil
	}
	touched := make(map[string]bool, len(spec.Touched))
	for _, name := range spec.Touched {
		touched[name] = true
	}
	return r.Rebase(spec.Base, touched), nil
}

func readCache(ctx context.Context, spec CacheSpec, ask func(CacheFound) ([]*diff.Known, error)) (snapshot.Changes, error) {
	before, err := recordBefore(spec)
	if err != nil {
		return nil, err
	}
	start, err := diff.Begin(ctx)
	if err != nil {
		return nil, err
	}
	scanned, err := diff.Scan(ctx, filepath.Join(spec.Dir, spec.Name), diff.Options{OneOwner: spec.OneOwner})
	if err != nil {
		return nil, err
	}
	after := scanned.In(spec.Name)
	diff.ForgiveTimes(before, after)
	found := CacheFound{Size: after.FileBytes()}
	if found.Doubtful, err = diff.Doubtful(spec.Dir, before, after); err != nil {
		return nil, err
	}
	if found.Doubtful, err = diff.Single(spec.Dir, found.Doubtful); err != nil {
		return nil, err
	}
	answers, err := ask(found)
	if err != nil {
		return nil, err
	}
	changes := diff.Compare(ctx, spec.Dir, before, after, knownBy(found.Doubtful, answers), diff.Options{})
	changes = diff.Steady(spec.Dir, after, changes)
	return remembering(changes, scanned, start, spec.After), nil
}

// remembering writes the record to a file when the changes have been consumed. What may have changed while it was made is
// not believed to be the same later.
func remembering(changes snapshot.Changes, r *diff.Record, start time.Time, file string) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		for c, err := range changes {
			if !yield(c, err) || err != nil {
				return
			}
		}
		r.Doubt(start)
		if err := writeRecord(r, file); err != nil {
			yield(snapshot.Change{}, err)
		}
	}
}

// Rename gives a file or directory another name, whoever owns it.
func (w *Worker) Rename(ctx context.Context, from, to string) error {
	if w.ids == nil {
		return os.Rename(from, to)
	}
	p, err := w.helper(opRename).Start(ctx)
	if err != nil {
		return err
	}
	if err := p.Send([2]string{from, to}); err != nil {
		return p.Fail(err)
	}
	return p.Finish()
}

func childRename(c *child.Conn) error {
	var names [2]string
	if err := c.Receive(&names); err != nil {
		return err
	}
	return os.Rename(names[0], names[1])
}
