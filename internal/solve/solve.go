// Package solve walks the graph of a plan: it finds each step's result in the cache or makes it,
// as soon as what the step depends on is there, and nothing that nobody needs.
//
// A step is needed when it is a goal, when it lies below a needed step, or when a needed step
// that is not in the cache reads its files. Needed steps start their key and look-up at
// once, in parallel; so what is cached is known after a round trip or two, and a stage that only cached
// steps read is never looked at.
package solve

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Options are what a plan is solved with. All are needed, except where said.
type Options struct {
	Plan *plan.Plan
	// Context is the build context.
	Context rootfs.Tree
	// Image returns the base image of a Pull. Its layers must be lazy.
	Image func(ctx context.Context, pull plan.Pull, p v1.Platform) (v1.Image, error)
	// Source returns where a step of plan.HTTP, plan.Git or plan.Local has its files from. It may be nil for plans without
	// such steps.
	Source func(ctx context.Context, op plan.Op) (Source, error)
	// Cache keeps results of steps. It may be nil. What is too old is for it to say: where a step has a limit of its own it
	// is asked with cache.WithTTL.
	Cache cache.Store
	// Records remember what steps were made of. They may be nil.
	Records Records
	// Explain tells, by an event for each stage, why the first step that is not in the cache is not.
	Explain bool
	// Share, when not nil, is given what all steps are made of, by the ids that Records are asked for, when all of them are
	// there and not all were found. It returns at once.
	Share func(records map[string]json.RawMessage)
	// Driver is asked for once, when the first process has to run.
	Driver func(ctx context.Context) (sandbox.Driver, error)
	// Likely returns the driver that Driver will most likely return, or nil, at next to no cost. Roots are opened by it while Driver
	// still finds out. It may be nil.
	Likely func() sandbox.Driver
	// Mounts gives processes caches, secrets, agents and devices. It may be nil.
	Mounts Mounts
	// Caches fill caches of Mounts before their first use. They may be nil.
	Caches SharedCaches
	// Indexes keeps file indexes of layers. It may be nil.
	Indexes rootfs.Indexes
	// Layer says how layers are written. Its Dir is also used for temporary files.
	Layer snapshot.Options
	// Keep takes over the file of a layer that was just written. It may be nil: files stay in Layer.Dir.
	Keep func(*snapshot.Blob) error
	// Finished is called, from goroutines of its own, with each layer of a goal's image as soon as
	// it is there, in no particular order. Solve waits for the calls; an error of one ends it. It may be nil.
	Finished func(ctx context.Context, goal *plan.Step, layer v1.Layer) error
	// Known is called, like Finished, with the result of a goal when all of its layers are there, while other things are still
	// being finished. What the layers are kept as is not known yet. It may be nil.
	Known    func(ctx context.Context, r Result) error
	Progress progress.Sink
	// Epoch, when not zero, is the time of everything that would have the present time
	// (https://reproducible-builds.org/specs/source-date-epoch/).
	Epoch time.Time
}

// Layer is one layer of a result.
type Layer struct {
	v1.Layer
	// Created is when the step that made the layer was run, whatever Options.Epoch says; zero for layers of a base image.
	Created time.Time
	// Base says that the layer is one of a base image.
	Base bool
	// Kept says what the layer is kept as in the cache; nil for layers of a base image.
	Kept *Kept
}

// Result is what a goal of the plan came to.
type Result struct {
	Step *plan.Step
	// Layers are all layers, the lowest first: those of the base image, then one for each history
	// entry in the plan that is not empty.
	Layers []Layer
}

// Solve makes the goals of o.Plan, in their order. When a step fails, everything else is cancelled and the
// error is a *StepError. When Solve returns nothing that it started is running.
func Solve(ctx context.Context, o Options) ([]Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newSolver(ctx, cancel, o)
	for _, goal := range o.Plan.Goals {
		s.need(s.nodes[goal])
	}
	results := make([]Result, 0, len(o.Plan.Goals))
	for _, goal := range o.Plan.Goals {
		r, err := s.result(goal)
		if err != nil {
			s.fail(err)
			break
		}
		results = append(results, r)
		s.known(r)
	}
	s.work.Wait()
	// What is handed over is read from where layers are kept, so that roots can go meanwhile.
	err := s.roots.close()
	s.handing.Wait()
	if context.Cause(ctx) == nil {
		s.share(ctx)
	}
	err = errors.Join(err, s.close())
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	for _, r := range results {
		if err := s.kept(r); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// solver is the state of one Solve.
type solver struct {
	ctx   context.Context //nolint:containedctx // one call's own context, shared by the goroutines of that call
	fail  context.CancelCauseFunc
	o     Options
	nodes map[*plan.Step]*node
	// work are the goroutines that make results, and handing those that hand them over.
	work, handing sync.WaitGroup

	roots *roots
	empty func() *emptyLayer
	// goalOf holds, for each step whose layer ends up in an image, a goal that it belongs to.
	goalOf map[*plan.Step]*plan.Step
	// noted says that a step's result was not where its definition says.
	noted atomic.Bool

	mu        sync.Mutex
	trees     map[*stack]*future[*rootfs.LayerTree]
	shown     map[shownFiles]*future[string] // digests of what is mounted
	mountable map[shownFiles]*future[*stack]
	warned    map[string]bool
	explained map[*node]bool // by the lowest step of the stage
	// inlineTimes are when the inline files were made that have been used.
	inlineTimes map[plan.InlineFile]time.Time
}

func newSolver(ctx context.Context, fail context.CancelCauseFunc, o Options) *solver {
	s := &solver{
		ctx: ctx, fail: fail, o: o,
		nodes:  make(map[*plan.Step]*node, len(o.Plan.Steps)),
		goalOf: map[*plan.Step]*plan.Step{},
		trees:  map[*stack]*future[*rootfs.LayerTree]{},
		warned: map[string]bool{},

		shown:     map[shownFiles]*future[string]{},
		mountable: map[shownFiles]*future[*stack]{},
		explained: map[*node]bool{},

		inlineTimes: map[plan.InlineFile]time.Time{},
	}
	if s.o.Mounts == nil {
		s.o.Mounts = noMounts{}
	}
	s.roots = newRoots(o.Driver, o.Likely)
	s.empty = sync.OnceValue(func() *emptyLayer { return newEmptyLayer(o.Layer.Docker) })
	for _, step := range o.Plan.Steps {
		s.nodes[step] = newNode(s, step)
	}
	for _, goal := range o.Plan.Goals {
		for step := goal; step != nil; step = step.Base {
			s.goalOf[step] = goal
		}
	}
	return s
}

// spawn runs f in a goroutine that Solve waits for. An error of f ends the whole.
func (s *solver) spawn(f func() error) {
	s.work.Go(func() {
		if err := f(); err != nil {
			s.fail(err)
		}
	})
}

// handOver runs f in a goroutine that Solve waits for when all results are made. An error of f ends the whole.
func (s *solver) handOver(f func() error) {
	s.handing.Go(func() {
		if err := f(); err != nil {
			s.fail(err)
		}
	})
}

// known hands over a result whose layers are all there.
func (s *solver) known(r Result) {
	if s.o.Known != nil {
		s.handOver(func() error { return s.o.Known(s.ctx, r) })
	}
}

// result waits for a goal and for all of its layers.
func (s *solver) result(goal *plan.Step) (Result, error) {
	st, err := s.nodes[goal].state.wait(s.ctx)
	if err != nil {
		return Result{}, err
	}
	r := Result{Step: goal}
	for _, p := range st.layers.list() {
		l, err := p.wait(s.ctx)
		if err != nil {
			return Result{}, err
		}
		r.Layers = append(r.Layers, l)
	}
	return r, nil
}

func (s *solver) close() error {
	var err error
	for _, n := range s.nodes {
		err = errors.Join(err, n.close())
	}
	return errors.Join(err, s.closeTrees())
}

// now is the time to give to what is made now.
func (s *solver) now() time.Time {
	if !s.o.Epoch.IsZero() {
		return s.o.Epoch
	}
	return time.Now()
}

func (s *solver) emit(n *node, kind progress.Kind, text string) {
	s.o.Progress.Emit(progress.Event{Time: time.Now(), Kind: kind, Step: n.step.ID, Name: n.step.Name, Text: text})
}

// warn tells the user of trouble that does not stop the build, each trouble once.
func (s *solver) warn(text string) {
	s.mu.Lock()
	again := s.warned[text]
	s.warned[text] = true
	s.mu.Unlock()
	if !again {
		s.o.Progress.Emit(progress.Event{Time: time.Now(), Kind: progress.Warning, Text: text})
	}
}
