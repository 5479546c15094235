package solve

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gobuild-dev/gobuild/internal/fileop"
	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// selection is the files of a copy, and their digest, which is computed once.
type selection struct {
	*fileop.Selection
	digest func(ctx context.Context) ([32]byte, error)
}

// selectFiles finds the files of a copy. Those that come from steps must be there.
func (s *solver) selectFiles(ctx context.Context, op plan.Copy) (*selection, error) {
	c := fileop.Copy{
		Dest:    op.Dest,
		Chown:   op.Chown,
		Chmod:   op.Chmod,
		Parents: op.Parents,
		Link:    op.Link,
		Exclude: op.Exclude,
		Time:    s.now(),
		TempDir: s.o.Layer.Dir,
	}
	for _, src := range op.Sources {
		from := fileop.Source{Path: src.Path, Literal: src.Literal, Unpack: src.Unpack, KeepOwner: true} // trees of contexts say whom a context gives files to
		if src.Inline != nil {
			from.Inline = s.inline(*src.Inline)
		} else {
			var err error
			if from.Tree, err = s.files(ctx, src.From); err != nil {
				return nil, err
			}
		}
		c.Sources = append(c.Sources, from)
	}
	sel, err := c.Select(ctx)
	if err != nil {
		return nil, err
	}
	var once sync.Once
	var sum [32]byte
	return &selection{Selection: sel, digest: func(ctx context.Context) ([32]byte, error) {
		once.Do(func() { sum, err = sel.Digest(ctx) })
		return sum, err
	}}, nil
}

// inline is a file whose contents stand in the Dockerfile. The same file twice has one time, as one that was made once and
// copied twice, so that the second copy over the first is no change.
func (s *solver) inline(f plan.InlineFile) *fileop.Inline {
	s.mu.Lock()
	defer s.mu.Unlock()
	made, ok := s.inlineTimes[f]
	if !ok {
		made = s.now()
		s.inlineTimes[f] = made
	}
	return &fileop.Inline{Name: f.Name, Data: f.Data, Mode: f.Mode, Time: made}
}

// digestFiles is the digest of the files that op copies, which must be there.
func (s *solver) digestFiles(ctx context.Context, op plan.Copy) (string, error) {
	sel, err := s.selectFiles(ctx, op)
	if err != nil {
		return "", err
	}
	sum, err := sel.digest(ctx)
	return string(sum[:]), errors.Join(err, sel.Close())
}

// allAtHand says whether everything that op copies is there before anything has run.
func allAtHand(op plan.Copy) bool {
	for _, src := range op.Sources {
		if src.Inline == nil && !atHand(src.From) {
			return false
		}
	}
	return true
}

// selectFromUses finds the files of a copy that reads those of other steps.
func (s *solver) selectFromUses(ctx context.Context, n *node) error {
	op, ok := n.step.Op.(plan.Copy)
	if !ok || allAtHand(op) {
		return nil
	}
	sel, err := s.selectFiles(ctx, op)
	n.selection.set(sel, err)
	return err
}

// copy makes the layer of a COPY or ADD on layers.
func (s *solver) copy(ctx context.Context, n *node, layers *stack) (Layer, error) {
	sel, err := n.selection.wait(ctx)
	if err != nil {
		return Layer{}, err
	}
	tree, err := s.tree(ctx, layers)
	if err != nil {
		return Layer{}, err
	}
	return s.written(ctx, n, layers, sel.Changes(ctx, tree))
}

// workDir makes the layer of a WORKDIR on layers.
func (s *solver) workDir(ctx context.Context, n *node, op plan.WorkDir, layers *stack) (Layer, error) {
	tree, err := s.tree(ctx, layers)
	if err != nil {
		return Layer{}, err
	}
	return s.written(ctx, n, layers, fileop.WorkDir(ctx, tree, op.Path, op.User, s.now()))
}

// fetchLayer makes a layer of the files that a step fetches, which a stage begins with.
func (s *solver) fetchLayer(ctx context.Context, n *node) (Layer, error) {
	tree, err := s.fetch(ctx, n)
	if err != nil {
		return Layer{}, err
	}
	return s.written(ctx, n, nil, snapshot.FromTree(tree, "."))
}

// written writes changes to layers as a step's layer.
func (s *solver) written(ctx context.Context, n *node, layers *stack, changes snapshot.Changes) (Layer, error) {
	l, err := s.write(ctx, changes)
	if err != nil {
		return Layer{}, err
	}
	s.spawn(func() error {
		err := s.remember(ctx, n, layers, l)
		if err == nil {
			err = s.closeSelection(ctx, n)
		}
		return stepError(ctx, n.step, err)
	})
	s.finished(n, l.Layer)
	return l, nil
}

// write turns changes into a layer that the store keeps.
func (s *solver) write(ctx context.Context, changes snapshot.Changes) (Layer, error) {
	blob, err := snapshot.Write(ctx, changes, s.o.Layer)
	if err != nil {
		return Layer{}, err
	}
	if blob == nil {
		return Layer{Layer: s.empty(), Created: time.Now()}, nil
	}
	if s.o.Keep != nil {
		if err := s.o.Keep(blob); err != nil {
			return Layer{}, err
		}
	}
	return Layer{Layer: blob, Created: time.Now()}, nil
}
