package solve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/gobuild-dev/gobuild/internal/plan"
)

// Kinds of inputs, in the order in which changes of them are told of: what is on the line itself comes first.
const (
	inputWords  = "words"
	inputEnv    = "variable"
	inputBase   = "base"
	inputBelow  = "below"
	inputSource = "source"
	inputFile   = "file"
)

const (
	// maxInputs is how many inputs of a step are remembered one by one. A record of so many has about 2 MiB.
	maxInputs = 20_000
	// maxShared is how many inputs of all steps together are shared.
	maxShared = 50_000
)

// input is one thing that a step sees, by a hash of it: values may be none of a cache's business.
type input struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
	// Image is what people know a base image by.
	Image string `json:"image,omitempty"`
	Sum   string `json:"sum"`
	// step is the name of a step that is the input. It is not remembered, since it may have the value of a variable in it.
	step string
}

// compared is what makes in equal to another input.
func (in input) compared() input {
	in.Image, in.step = "", ""
	return in
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
	sum := h.sum()
	// Somebody may have put a password on a line or into a variable. Two bytes tell a value from the one before it nearly
	// always, and from one that was guessed never.
	r.put(input{Kind: kind, Name: name, Sum: hex.EncodeToString(sum[:2])})
}

// addSum adds in with a sum that stands for what nobody could guess: the contents of files.
func (r *record) addSum(in input, sum [sha256.Size]byte) {
	in.Sum = hex.EncodeToString(sum[:8])
	r.put(in)
}

func (r *record) put(in input) {
	if len(r.Inputs) >= maxInputs {
		r.Cut = true
		return
	}
	r.Inputs = append(r.Inputs, in)
}

// limit cuts the record to at most n inputs, and returns how many it has.
func (r *record) limit(n int) int {
	if len(r.Inputs) > n {
		r.Inputs, r.Cut = r.Inputs[:max(n, 0)], true
	}
	return len(r.Inputs)
}

// inputs lists what the key by definition of a step is made of.
func (s *solver) inputs(ctx context.Context, n *node) (*record, error) {
	if n.record != nil {
		return n.record, nil
	}
	r := &record{}
	if n.base != nil && !linked(n.step) {
		if err := n.belowInput(ctx, r); err != nil {
			return nil, err
		}
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
		r.add(inputWords, "", keys.result.String())
		return r, err
	}
}

// belowInput adds what a step is built on.
func (n *node) belowInput(ctx context.Context, r *record) error {
	below := n.base
	for config := true; config && below.base != nil; {
		if _, config = below.step.Op.(plan.Config); config {
			below = below.base
		}
	}
	keys, err := below.defined.wait(ctx)
	if op, ok := below.step.Op.(plan.Pull); ok {
		ref, _, _ := strings.Cut(op.Ref, "@")
		digest := op.Digest.Hex[:min(len(op.Digest.Hex), shownDigest)]
		r.addSum(input{Kind: inputBase, Image: fmt.Sprintf("%s@%s:%s", ref, op.Digest.Algorithm, digest)}, keys.files)
		return err
	}
	r.addSum(input{Kind: inputBelow, step: below.step.Name}, keys.files)
	return err
}

// shownDigest is how many digits of a digest tell it from others.
const shownDigest = 12

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
		r.addSum(input{Kind: inputSource, Name: "what is mounted at " + m.Target}, sha256.Sum256([]byte(sum)))
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
			n := s.nodes[src.From]
			r.addSum(input{Kind: inputSource, Name: n.place(), step: n.step.Name}, from.files)
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
	return sel.Inputs(ctx, func(name string, sum [sha256.Size]byte) { r.addSum(input{Kind: inputFile, Name: name}, sum) })
}
