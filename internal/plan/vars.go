package plan

import (
	"maps"
	"slices"
	"strings"
)

// vars are the variables in scope: those of ENV and of ARG, the last one to set a name wins. They are in the order in
// which they were last set, which is the order in which a process gets them.
type vars struct {
	values map[string]string
	order  map[string]int
	next   int

	keys []string // cache, nil when out of date
	env  []string // cache, nil when out of date
}

func newVars() *vars {
	return &vars{values: map[string]string{}, order: map[string]int{}}
}

func (v *vars) clone() *vars {
	return &vars{values: maps.Clone(v.values), order: maps.Clone(v.order), next: v.next}
}

func (v *vars) set(key, value string) {
	v.values[key] = value
	v.order[key] = v.next
	v.next++
	v.keys, v.env = nil, nil
}

func (v *vars) remove(key string) {
	delete(v.values, key)
	delete(v.order, key)
	v.keys, v.env = nil, nil
}

// setAll takes the variables of an image's config. One without a "=" is empty, as BuildKit has it.
func (v *vars) setAll(env []string) {
	for _, e := range env {
		key, value, _ := strings.Cut(e, "=")
		v.set(key, value)
	}
}

// Get and Keys are what shell.Lex expands from.
func (v *vars) Get(key string) (string, bool) {
	value, ok := v.values[key]
	return value, ok
}

func (v *vars) Keys() []string {
	if v.keys == nil {
		v.keys = slices.SortedFunc(maps.Keys(v.order), func(a, b string) int { return v.order[a] - v.order[b] })
	}
	return v.keys
}

// environ is the list of "key=value" for a process. It is shared by the steps between two changes. The cost of
// making it goes to b.
func (v *vars) environ(b *budget) ([]string, error) {
	if v.env != nil {
		return v.env, nil
	}
	env := make([]string, 0, len(v.values))
	for _, k := range v.Keys() {
		e := k + "=" + v.values[k]
		if err := b.spend(len(e)); err != nil {
			return nil, err
		}
		env = append(env, e)
	}
	v.env = env
	return env, nil
}
