package solve

import (
	"context"
	"errors"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Source is where a step of plan.HTTP, plan.Git or plan.Local has its files from. It is safe for concurrent use, and does
// its work once.
type Source interface {
	// Key identifies the files, without fetching more than that takes: equal keys stand for equal files. It is empty
	// for files that are at hand and are best identified by what is read of them.
	Key(ctx context.Context) (string, error)
	// Tree fetches the files.
	Tree(ctx context.Context) (rootfs.Tree, error)
}

// fetches says whether a step begins with files of no image.
func fetches(step *plan.Step) bool {
	switch step.Op.(type) {
	case plan.HTTP, plan.Git, plan.Local:
		return true
	}
	return false
}

// atHand says whether the files that a step has for others are there before anything has run: those of the build
// context, for which step is nil, and of directories.
func atHand(step *plan.Step) bool {
	if step == nil {
		return true
	}
	_, local := step.Op.(plan.Local)
	return local
}

// source returns where a step that fetches has its files from.
func (s *solver) source(ctx context.Context, n *node) (Source, error) {
	n.sourceOnce.Do(func() {
		if s.o.Source == nil {
			n.source.set(nil, errors.New("no way to fetch files was given"))
			return
		}
		src, err := s.o.Source(ctx, n.step.Op)
		n.source.set(src, err)
	})
	return n.source.wait(ctx)
}

// files returns the files of a step that others read, or those of the build context if step is nil.
func (s *solver) files(ctx context.Context, step *plan.Step) (rootfs.Tree, error) {
	if step == nil {
		return s.o.Context, nil
	}
	n := s.nodes[step]
	if fetches(step) {
		return s.fetch(ctx, n)
	}
	st, err := n.state.wait(ctx)
	if err != nil {
		return nil, err
	}
	return s.tree(ctx, st.layers)
}

// fetch fetches the files of a step. Their step is shown once, as it runs for the first of those who need it.
func (s *solver) fetch(ctx context.Context, n *node) (rootfs.Tree, error) {
	n.fetchOnce.Do(func() {
		s.emit(n, progress.StepStarted, "")
		tree, err := s.fetchTree(ctx, n)
		if err = stepError(ctx, n.step, err); err != nil {
			s.emit(n, progress.StepFailed, err.Error())
		} else {
			s.emit(n, progress.StepDone, "")
		}
		n.tree.set(tree, err)
	})
	return n.tree.wait(ctx)
}

func (s *solver) fetchTree(ctx context.Context, n *node) (rootfs.Tree, error) {
	src, err := s.source(ctx, n)
	if err != nil {
		return nil, err
	}
	return src.Tree(ctx)
}
