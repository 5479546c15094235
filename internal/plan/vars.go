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
	// sets are the names in the order of all calls of set. Only the last mention of a name, at last[name], counts.
	sets []string
	last map[string]int

	env []string // cache of environ, nil when out of date
}

func newVars() *vars {
	return &vars{values: map[string]string{}, last: map[string]int{}}
}

func (v *vars) clone() *vars {
	return &vars{values: maps.Clone(v.values), sets: slices.Clip(v.sets), last: maps.Clone(v.last)}
}

func (v *vars) set(key, value string) {
	v.values[key] = value
	v.last[key] = len(v.sets)
	v.sets = append(v.sets, key)
	v.env = nil
}

func (v *vars) remove(key string) {
	delete(v.values, key)
	delete(v.last, key)
	v.env = nil
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
	if len(v.sets) == len(v.values) {
		return v.sets
	}
	keys := make([]string, 0, len(v.values))
	for i, k := range v.sets {
		if at, ok := v.last[k]; ok && at == i {
			v.last[k] = len(keys)
			keys = append(keys, k)
		}
	}
	v.sets = keys
	return keys
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
		if err := b.spend(len(e) + entrySize/2); err != nil {
			return nil, err
		}
		env = append(env, e)
	}
	v.env = env
	return env, nil
}
