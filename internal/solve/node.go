package solve

import (
	"context"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// node is a step on its way to a result.
type node struct {
	step *plan.Step
	base *node // nil for a step that begins a stage

	keyOnce, stateOnce sync.Once

	// selection is set for copies only: early when all that they copy is at hand, and only once the
	// result is not in the cache when they copy from other steps.
	selection *future[*selection]
	defined   *future[defined]
	state     *future[state]
	// anew says that the step, or one that it is made from or lies on, is to be made anew.
	anew bool
	// unsure says that its definition does not tell what the step will see, since that is to be made anew.
	unsure bool
	// content is the key by content; zero while it is not known. It is set by the one goroutine that has the step in hand.
	content cache.Key
	// record is what the step was made of, for those who ask after the selection is gone.
	record *record
	// missed says why a result that may be in the cache is not used; empty if there is none.
	missed string

	// source and tree are set for steps that fetch.
	sourceOnce, fetchOnce sync.Once
	source                *future[Source]
	tree                  *future[rootfs.Tree]
}

// state is what a step leaves for those that build on it.
type state struct {
	// layers includes the step's own, which may still be in the making.
	layers *stack
	// root is an open root that holds the lower ones of layers, for the next process that runs on
	// them; nil if there is none.
	root *openRoot
}

// push is the state with one more layer, which is there.
func (st state) push(l Layer) state {
	return state{layers: st.layers.push(ready(l)), root: st.root}
}

func newNode(s *solver, step *plan.Step) *node {
	n := &node{
		step:      step,
		selection: newFuture[*selection](),
		defined:   newFuture[defined](),
		state:     newFuture[state](),
		source:    newFuture[Source](),
		tree:      newFuture[rootfs.Tree](),
	}
	n.unsure = step.NoCache
	for _, use := range step.Uses {
		n.unsure = n.unsure || s.nodes[use].anew
	}
	n.anew = n.unsure
	if step.Base != nil {
		n.base = s.nodes[step.Base]
		n.anew = n.anew || n.base.anew
	}
	if !linked(step) {
		n.unsure = n.anew
	}
	return n
}

// need starts what a step's result takes, and that of the steps below it. It returns at once.
func (s *solver) need(n *node) {
	n.stateOnce.Do(func() {
		if n.base != nil {
			s.need(n.base)
		}
		s.needKey(n)
		s.spawn(func() error {
			st, err := s.make(s.ctx, n)
			err = stepError(s.ctx, n.step, err)
			n.state.set(st, err)
			return err
		})
	})
}

// needKey starts the computation of a step's key and of all that it is made of. It returns at once.
func (s *solver) needKey(n *node) {
	n.keyOnce.Do(func() {
		if n.base != nil {
			s.needKey(n.base)
		}
		for _, use := range n.step.Uses {
			// What is at hand is known by those of its files that are read.
			if !atHand(use) {
				s.needKey(s.nodes[use])
			}
		}
		if op, ok := n.step.Op.(plan.Copy); ok && allAtHand(op) {
			s.spawn(func() error {
				sel, err := s.selectFiles(s.ctx, op)
				err = stepError(s.ctx, n.step, err)
				n.selection.set(sel, err)
				return err
			})
		}
		s.spawn(func() error {
			keys, err := s.define(s.ctx, n)
			err = stepError(s.ctx, n.step, err)
			n.defined.set(keys, err)
			return err
		})
	})
}

// make finds or makes the result of a step.
func (s *solver) make(ctx context.Context, n *node) (state, error) {
	switch op := n.step.Op.(type) {
	case plan.Scratch:
		return state{}, nil
	case plan.Pull:
		return s.pull(ctx, n, op)
	case plan.Config:
		return n.base.state.wait(ctx)
	case plan.Run, plan.Copy, plan.WorkDir, plan.HTTP, plan.Git, plan.Local:
		return s.makeLayer(ctx, n)
	default:
		return state{}, fmt.Errorf("unknown operation %T", op)
	}
}

// pull puts the layers of a base image on the stack. It fetches none of them.
func (s *solver) pull(ctx context.Context, n *node, op plan.Pull) (state, error) {
	s.emit(n, progress.StepStarted, "")
	img, err := s.o.Image(ctx, op, n.step.Platform)
	if err != nil {
		return state{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return state{}, err
	}
	s.emit(n, progress.StepDone, "")
	var st state
	for _, l := range layers {
		st.layers = st.layers.push(ready(Layer{Layer: l, Base: true}))
		s.finished(n, l)
	}
	return st, nil
}

// hasLayer says whether a step makes a layer.
func hasLayer(step *plan.Step) bool {
	switch step.Op.(type) {
	case plan.Scratch, plan.Pull, plan.Config:
		return false
	}
	return true
}

// makeLayer finds or makes the layer of a step that has one.
func (s *solver) makeLayer(ctx context.Context, n *node) (state, error) {
	keys, err := n.defined.wait(ctx)
	if err != nil {
		return state{}, err
	}
	var entry cache.Entry
	hit := false
	if !n.unsure {
		entry, hit = s.lookUp(ctx, n, keys.result)
	}
	if !hit {
		s.needUses(n)
	}
	if linked(n.step) {
		return s.makeLinked(ctx, n, entry, hit)
	}
	base, err := n.below(ctx)
	if err != nil {
		return state{}, err
	}
	if hit {
		if fits, err := fits(ctx, entry, base); err != nil {
			return state{}, err
		} else if fits {
			return base.push(s.cached(n, entry)), nil
		}
		n.missed = "what it is built on was made anew, and has changed"
		s.needUses(n)
	}
	if err := s.selectFromUses(ctx, n); err != nil {
		return state{}, err
	}
	if _, isRun := n.step.Op.(plan.Run); !isRun || base.layers.written() {
		// A process need not wait for the layer below it to be written, which is when its content is
		// known: what a process has just made is rarely what another made before.
		if entry, hit, err := s.lookUpContent(ctx, n, base.layers); err != nil {
			return state{}, err
		} else if hit {
			return base.push(s.cached(n, entry)), nil
		}
	}
	return s.execute(ctx, n, base)
}

// makeLinked makes the layer of a linked copy, unless entry is a hit. It waits for what is below the copy
// only when the layer is there.
func (s *solver) makeLinked(ctx context.Context, n *node, entry cache.Entry, hit bool) (state, error) {
	if !hit {
		err := s.selectFromUses(ctx, n)
		if err != nil {
			return state{}, err
		}
		if entry, hit, err = s.lookUpContent(ctx, n, nil); err != nil {
			return state{}, err
		}
	}
	var l Layer
	if hit {
		l = s.cached(n, entry)
	} else if err := s.perform(ctx, n, func() (err error) {
		l, err = s.copy(ctx, n, nil)
		return err
	}); err != nil {
		return state{}, err
	}
	base, err := n.below(ctx)
	if err != nil {
		return state{}, err
	}
	return base.push(l), nil
}

// below waits for the state that a step works on.
func (n *node) below(ctx context.Context) (state, error) {
	if n.base == nil {
		return state{}, nil
	}
	return n.base.state.wait(ctx)
}

// needUses starts the steps whose files a step reads, but for those that fetch: files are not made layers of only to be
// read.
func (s *solver) needUses(n *node) {
	for _, use := range n.step.Uses {
		if !fetches(use) {
			s.need(s.nodes[use])
		}
	}
}

// execute makes the layer of a step that is not in the cache.
func (s *solver) execute(ctx context.Context, n *node, base state) (st state, err error) {
	if fetches(n.step) {
		s.missed(ctx, n)
		l, err := s.fetchLayer(ctx, n)
		return base.push(l), err
	}
	err = s.perform(ctx, n, func() error {
		var l Layer
		var err error
		switch op := n.step.Op.(type) {
		case plan.Run:
			st, err = s.run(ctx, n, op, base)
			return err
		case plan.Copy:
			l, err = s.copy(ctx, n, base.layers)
		case plan.WorkDir:
			l, err = s.workDir(ctx, n, op, base.layers)
		}
		st = base.push(l)
		return err
	})
	return st, err
}

// perform tells of a step that is not in the cache while f carries it out.
func (s *solver) perform(ctx context.Context, n *node, f func() error) error {
	s.missed(ctx, n)
	s.emit(n, progress.StepStarted, "")
	if err := stepError(ctx, n.step, f()); err != nil {
		s.emit(n, progress.StepFailed, err.Error())
		return err
	}
	s.emit(n, progress.StepDone, "")
	return nil
}

// finished hands over a layer that a goal's image will have.
func (s *solver) finished(n *node, l v1.Layer) {
	goal := s.goalOf[n.step]
	if goal == nil || s.o.Finished == nil {
		return
	}
	s.handOver(func() error { return s.o.Finished(s.ctx, goal, l) })
}

// closeSelection frees what the selection of a step holds whose layer is written and remembered: there may be hundreds of
// thousands of files, and memory that the steps after it need.
func (s *solver) closeSelection(ctx context.Context, n *node) error {
	if s.o.Share != nil {
		var err error
		if n.record, err = s.inputs(ctx, n); err != nil {
			return nil //nolint:nilerr // whoever asks for the record will meet the error
		}
	}
	return n.close()
}

// close frees what the step's selection holds.
func (n *node) close() error {
	select {
	case <-n.selection.done:
		if n.selection.value != nil {
			return n.selection.value.Close()
		}
	default:
	}
	return nil
}
