package solve

import "github.com/gobuild-dev/gobuild/pkg/cache"

// Kept says what a layer is kept as in the cache. It is the same whether the layer was made or found.
type Kept struct {
	// Definition and Content are the keys. Content is zero when there is no cache, and when the layer was found in one that
	// does not know it.
	Definition, Content cache.Key
	Kind                cache.Kind
	// Linked says that the layer was made without a look at those below it.
	Linked bool
	// Empty says that the step changed no file.
	Empty bool
}

// kept fills in what the layers of r are kept as. All work has to be done.
func (s *solver) kept(r Result) error {
	top := len(r.Layers)
	for step := r.Step; step != nil; step = step.Base {
		if !hasLayer(step) {
			continue
		}
		keys, err := s.nodes[step].defined.wait(s.ctx)
		if err != nil {
			return err
		}
		top--
		l := &r.Layers[top]
		l.Kept = &Kept{
			Definition: keys.result, Content: s.nodes[step].content, Kind: kindOf(step.Op),
			Linked: linked(step), Empty: isEmpty(l.Layer),
		}
	}
	return nil
}
