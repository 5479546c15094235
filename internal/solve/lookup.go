package solve

import (
	"context"
	"errors"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/progress"
)

// lookUp asks the cache for a result of n. A cache in trouble is a miss and a warning, and what is too old is a miss.
func (s *solver) lookUp(ctx context.Context, n *node, k cache.Key) (cache.Entry, bool) {
	if n.step.NoCache {
		n.missed = "its stage is to be made anew"
		return cache.Entry{}, false
	}
	if s.o.Cache == nil {
		return cache.Entry{}, false
	}
	if ttl := n.step.CacheTTL; ttl != nil {
		ctx = cache.WithTTL(ctx, *ttl)
	}
	e, err := s.o.Cache.Get(ctx, k)
	if err == nil {
		return e, true
	}
	switch old := (*cache.ExpiredError)(nil); {
	case errors.As(err, &old):
		n.missed = old.Error()
	case !errors.Is(err, cache.ErrMiss) && ctx.Err() == nil:
		s.warn("read cache: " + err.Error())
	}
	return cache.Entry{}, false
}

// fits says whether an entry that was found by its definition belongs on the layers that are really below the
// step. When the step below was made anew meanwhile, its layer may be another, and what was made on the old
// one would not match it.
func fits(ctx context.Context, e cache.Entry, base state) (bool, error) {
	below, err := base.layers.chainID(ctx)
	return below == e.Below, err
}

// linked says whether a step makes its layer without a look at what is below it.
func linked(step *plan.Step) bool {
	op, ok := step.Op.(plan.Copy)
	return ok && op.Link
}

// lookUpContent asks the cache for what the step really sees, on layers. A result that is found is put under the
// step's definition, where the next build finds it without all this.
func (s *solver) lookUpContent(ctx context.Context, n *node, layers *stack) (cache.Entry, bool, error) {
	if s.o.Cache == nil {
		return cache.Entry{}, false, nil
	}
	below, err := layers.chainID(ctx)
	if err != nil {
		return cache.Entry{}, false, err
	}
	key, err := s.contentKey(ctx, n, below)
	if err != nil {
		return cache.Entry{}, false, err
	}
	e, hit := s.lookUp(ctx, n, key)
	if !hit {
		return e, false, nil
	}
	e.Below, e.Content, e.Kind = below, key, kindOf(n.step.Op)
	s.put(ctx, n.defined.value.result, e)
	s.note(ctx, n)
	return e, true, nil
}

// cached is the layer of a step whose result was found.
func (s *solver) cached(n *node, e cache.Entry) Layer {
	l := e.Layer
	if l == nil {
		l = s.empty()
	}
	n.content = e.Content
	s.emit(n, progress.StepCached, "")
	s.finished(n, l)
	return Layer{Layer: l, Created: e.Created}
}

// remember puts a new result, made on layers, into the cache, under both of its keys.
func (s *solver) remember(ctx context.Context, n *node, layers *stack, l Layer) error {
	if s.o.Cache == nil {
		return nil
	}
	below, err := layers.chainID(ctx)
	if err != nil {
		return err
	}
	content, err := s.contentKey(ctx, n, below)
	if err != nil {
		return err
	}
	n.content = content
	e := cache.Entry{Created: l.Created, Below: below, Content: content, Step: n.step.Name, Kind: kindOf(n.step.Op)}
	if !isEmpty(l.Layer) {
		e.Layer = l.Layer
	}
	s.put(ctx, content, e)
	s.put(ctx, n.defined.value.result, e)
	s.note(ctx, n)
	return nil
}

// put stores an entry. A cache in trouble is a warning.
func (s *solver) put(ctx context.Context, k cache.Key, e cache.Entry) {
	if err := s.o.Cache.Put(ctx, k, e); err != nil && ctx.Err() == nil {
		s.warn("write cache: " + err.Error())
	}
}
