package solve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// pending is a layer that may still be in the making.
type pending = future[Layer]

func ready(l Layer) *pending {
	p := newFuture[Layer]()
	p.set(l, nil)
	return p
}

// stack is the layers that a step sees or leaves behind, as a list from the top. It is immutable, and steps
// share what is below them. Nil is no layers.
type stack struct {
	below *stack
	top   *pending
	chain *future[v1.Hash]
}

func (s *stack) push(p *pending) *stack {
	return &stack{below: s, top: p, chain: newFuture[v1.Hash]()}
}

// list returns the layers, the lowest first.
func (s *stack) list() []*pending {
	var list []*pending
	for ; s != nil; s = s.below {
		list = append(list, s.top)
	}
	slices.Reverse(list)
	return list
}

// above returns the layers of s that lie on top of lower, the lowest first; false if lower is not a part of s.
func (s *stack) above(lower *stack) ([]*pending, bool) {
	var list []*pending
	for ; s != lower; s = s.below {
		if s == nil {
			return nil, false
		}
		list = append(list, s.top)
	}
	slices.Reverse(list)
	return list, true
}

// wait returns the layers when all of them are there.
func (s *stack) wait(ctx context.Context) ([]v1.Layer, error) {
	var layers []v1.Layer
	for _, p := range s.list() {
		l, err := p.wait(ctx)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l.Layer)
	}
	return layers, nil
}

// written says that all layers are there.
func (s *stack) written() bool {
	for ; s != nil; s = s.below {
		select {
		case <-s.top.done:
		default:
			return false
		}
	}
	return true
}

// chainID identifies what the layers together contain (image-spec, config.md, "Layer ChainID"); it is zero for
// no layers. It waits for layers in the making.
func (s *stack) chainID(ctx context.Context) (v1.Hash, error) {
	if s == nil {
		return v1.Hash{}, nil
	}
	select {
	case <-s.chain.done:
		return s.chain.value, s.chain.err
	default:
	}
	l, err := s.top.wait(ctx)
	if err != nil {
		return v1.Hash{}, err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return v1.Hash{}, err
	}
	below, err := s.below.chainID(ctx)
	if err != nil {
		return v1.Hash{}, err
	}
	if s.below != nil {
		sum := sha256.Sum256([]byte(below.String() + " " + diffID.String()))
		diffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
	}
	s.chain.set(diffID, nil)
	return diffID, nil
}
