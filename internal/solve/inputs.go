package solve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/gobuild-dev/gobuild/internal/plan"
)

// Kinds of inputs, in the order in which changes of them are told of: what is on the line itself comes first.
const (
	inputWords  = "words"
	inputEnv    = "variable"
	inputBelow  = "below"
	inputSource = "source"
	inputFile   = "file"
)

// maxInputs is how many inputs of a step are remembered one by one. A record of so many has about 2 MiB.
const maxInputs = 20_000

// input is one thing that a step sees, by a hash of it: values may be none of a cache's business.
type input struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
	Sum  string `json:"sum"`
}

// record is what is remembered of a step, to tell later why it could not be taken from the cache.
type record struct {
	Inputs []input `json:"inputs"`
	// Cut says that there were more inputs.
	Cut bool `json:"cut,omitempty"`
}

func (r *record) add(kind, name string, values ...string) {
	h := newKey(kind)
	h.field(name, values...)
	r.addSum(kind, name, h.sum())
}

func (r *record) addSum(kind, name string, sum [sha256.Size]byte) {
	if len(r.Inputs) >= maxInputs {
		r.Cut = true
		return
	}
	// Eight bytes tell one value from the one before it.
	r.Inputs = append(r.Inputs, input{Kind: kind, Name: name, Sum: hex.EncodeToString(sum[:8])})
}

// inputs lists what the key by definition of a step is made of.
func (s *solver) inputs(ctx context.Context, n *node) (*record, error) {
	r := &record{}
	if n.base != nil && !linked(n.step) {
		below := n.base
		for config := true; config && below.base != nil; {
			if _, config = below.step.Op.(plan.Config); config {
				below = below.base
			}
		}
		keys, err := below.defined.wait(ctx)
		if err != nil {
			return nil, err
		}
		r.addSum(inputBelow, below.step.Name, keys.files)
	}
	if latest := s.o.Layer.Clamp; !latest.IsZero() {
		r.add(inputWords, "the time that files are rewritten to", latest.String())
	}
	switch op := n.step.Op.(type) {
	case plan.Run:
		return r, s.runInputs(ctx, r, op)
	case plan.Copy:
		return r, s.copyInputs(ctx, r, n, op)
	default:
		keys, err := n.defined.wait(ctx)
		r.addSum(inputWords, "", keys.result)
		return r, err
	}
}

func (s *solver) runInputs(ctx context.Context, r *record, op plan.Run) error {
	r.add(inputWords, "the command", op.Args...)
	r.add(inputWords, "the working directory", op.Dir)
	r.add(inputWords, "the user", op.User)
	for _, f := range op.Files {
		r.add(inputWords, "the heredoc", f.Name, f.Data)
	}
	for _, e := range op.Env {
		name, value, _ := strings.Cut(e, "=")
		r.add(inputEnv, name, value)
	}
	for _, m := range op.Mounts {
		if m.Type != plan.MountBind && m.From == nil {
			continue
		}
		one := op
		one.Mounts = []plan.Mount{m}
		sum, err := s.definedMounts(ctx, one)
		if err != nil {
			return err
		}
		r.add(inputSource, "what is mounted at "+m.Target, sum)
	}
	return nil
}

func (s *solver) copyInputs(ctx context.Context, r *record, n *node, op plan.Copy) error {
	for _, src := range op.Sources {
		switch {
		case src.Inline != nil:
			r.add(inputWords, "the heredoc", src.Inline.Name, src.Inline.Data)
		case !atHand(src.From):
			from, err := s.nodes[src.From].defined.wait(ctx)
			if err != nil {
				return err
			}
			r.addSum(inputSource, src.From.Name, from.files)
		}
		r.add(inputWords, "the paths", src.Path)
	}
	r.add(inputWords, "the paths", op.Dest)
	r.add(inputWords, "the flags", append([]string{op.Chown, op.Chmod}, op.Exclude...)...)
	if !allAtHand(op) {
		return nil
	}
	sel, err := n.selection.wait(ctx)
	if err != nil {
		return err
	}
	return sel.Inputs(ctx, func(name string, sum [sha256.Size]byte) { r.addSum(inputFile, name, sum) })
}
