package solve

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// run runs a process. The step is done when the process is: its layer is written while the next
// step runs.
func (s *solver) run(ctx context.Context, n *node, op plan.Run, base state) (_ state, err error) {
	m, err := s.mount(ctx, op, n.step.Platform)
	defer func() { err = errors.Join(err, m.release()) }()
	if err != nil {
		return state{}, err
	}
	r, err := s.roots.take(ctx, base)
	if err != nil {
		return state{}, err
	}
	out := newOutput(s.o.Progress, n.step, m.secrets)
	p := process(op, out)
	m.apply(&p)
	err = r.root.Run(ctx, p)
	out.flush()
	if err != nil {
		return state{}, s.runError(ctx, n, op, err, out)
	}
	changes := r.root.Changes(ctx)
	layer := newFuture[Layer]()
	layers := base.layers.push(layer)
	s.spawn(func() error {
		l, err := s.write(ctx, changes)
		err = stepError(ctx, n.step, err)
		if err == nil {
			r.root.Commit(l.Layer)
		}
		layer.set(l, err)
		if err != nil {
			return err
		}
		s.finished(n, l.Layer)
		return stepError(ctx, n.step, s.remember(ctx, n, base.layers, l))
	})
	s.roots.release(r, layers)
	return state{layers: layers, root: r}, nil
}

func process(op plan.Run, out *output) sandbox.Process {
	p := sandbox.Process{
		Args:     op.Args,
		Env:      op.Environ(),
		Dir:      op.Dir,
		User:     op.User,
		Hostname: op.Hostname,
		Hosts:    op.Hosts,
		Insecure: op.Insecure,
		Stdout:   out.stream(1),
		Stderr:   out.stream(2),
	}
	if op.Network == "none" {
		p.Network = sandbox.NetworkNone
	}
	for _, f := range op.Files {
		p.Files = append(p.Files, sandbox.File{Path: f.Name, Mode: f.Mode, Data: []byte(f.Data)})
	}
	return p
}

// runError is the error of a process that did not end well, in the words that users of BuildKit look for.
func (s *solver) runError(ctx context.Context, n *node, op plan.Run, err error, out *output) error {
	var exit *sandbox.ExitError
	if !errors.As(err, &exit) {
		return stepError(ctx, n.step, err)
	}
	return &StepError{
		Step:   n.step,
		Err:    fmt.Errorf("process %q did not complete successfully: %w", strings.Join(op.Args, " "), err),
		Output: out.tail(),
	}
}
