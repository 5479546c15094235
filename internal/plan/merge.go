package plan

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
)

// merge leaves out steps that do what another one does on the same base: those of a stage that runs on the build
// platform before it asks for the target's, once for each target, or of stages that begin alike. Goals stay as they are,
// for their images are not only what their instructions made.
func merge(steps []*Step, goals []*Step) []*Step {
	isGoal := map[*Step]bool{}
	for _, g := range goals {
		isGoal[g] = true
	}
	m := merger{replaced: map[*Step]*Step{}, known: map[[32]byte][]*Step{}}
	kept := steps[:0:0]
	for _, s := range steps {
		m.redirect(s)
		if isGoal[s] || !m.replace(s) {
			kept = append(kept, s)
		}
	}
	return kept
}

type merger struct {
	replaced map[*Step]*Step
	known    map[[32]byte][]*Step
}

// redirect lets s refer to the steps that were kept.
func (m *merger) redirect(s *Step) {
	to := func(s *Step) *Step {
		if r, ok := m.replaced[s]; ok {
			return r
		}
		return s
	}
	s.Base = to(s.Base)
	for i, u := range s.Uses {
		s.Uses[i] = to(u)
	}
	switch op := s.Op.(type) {
	case Copy:
		for i := range op.Sources {
			op.Sources[i].From = to(op.Sources[i].From)
		}
	case Run:
		for i := range op.Mounts {
			op.Mounts[i].From = to(op.Mounts[i].From)
		}
	}
}

// replace finds an earlier step that is the same as s, or remembers s for later ones.
func (m *merger) replace(s *Step) bool {
	id := identity(s)
	for _, k := range m.known[id] {
		// The bases are one step, so the images differ only by what these two did.
		if reflect.DeepEqual(k.Image.Config, s.Image.Config) && k.Image.Author == s.Image.Author && reflect.DeepEqual(k.Adds, s.Adds) {
			m.replaced[s] = k
			return true
		}
	}
	m.known[id] = append(m.known[id], s)
	return false
}

// identity is a hash of what a step does and on what.
func identity(s *Step) [32]byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%T %p %s %t\n", s.Op, s.Base, formatPlatform(fromV1(s.Platform)), s.NoCache)
	if s.CacheTTL != nil {
		_, _ = fmt.Fprintf(h, "%s\n", *s.CacheTTL)
	}
	switch op := s.Op.(type) {
	case Copy:
		for _, src := range op.Sources {
			_, _ = fmt.Fprintf(h, "%p\n", src.From)
		}
	case Run:
		for _, m := range op.Mounts {
			_, _ = fmt.Fprintf(h, "%p\n", m.From)
		}
	}
	if err := json.NewEncoder(h).Encode(s.Op); err != nil {
		_, _ = io.WriteString(h, err.Error()) // strings and numbers do not fail
	}
	return [32]byte(h.Sum(nil))
}
