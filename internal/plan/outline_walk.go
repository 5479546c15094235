package plan

import (
	"path"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// outliner walks a planned graph and notes what its stages take. Each name is noted once, for the stage that is met first.
type outliner struct {
	g      *graph
	specs  []instructions.Stage // as they are written, other than in the graph
	global map[string]argInput
	index  map[*stage]int // in specs
	// seen holds names, with what they name in front; visited are stages.
	seen    map[string]bool
	visited map[*stage]bool
	out     *Outline
}

// argInput is a declared argument.
type argInput struct {
	value, description string
	pos                dockerfile.Position
	// deps are the arguments before the first FROM that the default names.
	deps map[string]struct{}
}

// addGlobal adds the arguments before the first FROM. Each has its last value, and depends on all that went into it.
func (w *outliner) addGlobal(args []instructions.ArgCommand) error {
	v := w.g.platformArgs(w.specs)
	for _, c := range args {
		for _, arg := range c.Args {
			in := argInput{description: arg.DocComment, pos: w.g.file.Position(c.Location())}
			value, given := w.g.opts.BuildArgs[arg.Key]
			if !given && arg.Value != nil {
				res, err := w.g.expand.word(*arg.Value, v)
				if err != nil {
					return w.g.file.Error(c.Location(), err)
				}
				in.deps = res.Matched
				if _, self := in.deps[arg.Key]; self {
					in.deps = w.inheritDeps(arg.Key, in.deps)
				}
				value, given = res.Result, true
			}
			if given {
				v.set(arg.Key, value)
				in.value = value
			}
			w.global[arg.Key] = in
		}
	}
	return nil
}

// inheritDeps are deps, of an argument that names itself, and those that it had before.
func (w *outliner) inheritDeps(name string, deps map[string]struct{}) map[string]struct{} {
	delete(deps, name)
	old := w.global[name].deps
	if old == nil {
		return deps
	}
	for k := range deps {
		old[k] = struct{}{}
	}
	return old
}

// visit notes what s takes, and then what the stages take that it needs.
func (w *outliner) visit(s *stage) {
	var from []string
	for b := s; b != nil && !w.visited[b]; b = b.base {
		from = append(from, w.usedByFrom(b)...)
	}
	for ; s != nil && !w.visited[s]; s = s.base {
		w.visited[s] = true
		own, names := w.declared(s)
		w.args(own, append(names, from...))
		from = nil
		w.mounts(s)
		for _, d := range s.deps {
			w.visit(d.on)
		}
	}
}

// args notes the arguments that are called names, and those that their defaults name. own are those of a stage.
func (w *outliner) args(own map[string]argInput, names []string) {
	for done := map[string]bool{}; len(names) > 0; {
		name := names[0]
		names = names[1:]
		if done[name] {
			continue
		}
		done[name] = true
		in, ok := own[name]
		if !ok {
			if in, ok = w.global[name]; !ok {
				continue
			}
		}
		names = append(names, sortedKeys(in.deps)...)
		if w.first("arg", name) {
			w.out.Args = append(w.out.Args, OutlineArg{
				Name: name, Description: in.description, Value: in.value, Location: Location(in.pos),
			})
		}
	}
}

// declared are the arguments that s declares itself, and the names also of those that only take over a value from before the
// first FROM.
func (w *outliner) declared(s *stage) (own map[string]argInput, names []string) {
	own = map[string]argInput{}
	values := s.args
	if s.base != nil {
		values = values[len(s.base.args):]
	}
	for _, c := range s.commands {
		c, ok := c.Command.(*instructions.ArgCommand)
		if !ok {
			continue
		}
		for _, arg := range c.Args {
			value := values[0]
			values = values[1:]
			names = append(names, arg.Key)
			_, given := w.g.opts.BuildArgs[arg.Key]
			if _, global := w.g.global.Get(arg.Key); global && !given && arg.Value == nil {
				continue
			}
			own[arg.Key] = argInput{value: value.ValueString(), description: arg.DocComment, pos: w.g.file.Position(c.Location())}
		}
	}
	return own, names
}

// usedByFrom are the variables in FROM of s.
func (w *outliner) usedByFrom(s *stage) []string {
	i, ok := w.index[s]
	if !ok || s.replaced {
		return nil // an image that COPY --from names, or a named context
	}
	var names []string
	for _, word := range []string{w.specs[i].BaseName, w.specs[i].Platform} {
		if res, err := w.g.expand.word(word, w.g.global); err == nil {
			names = append(names, sortedKeys(res.Matched)...)
		}
	}
	return names
}

// mounts notes the mounts of s's RUN instructions, whose words have been expanded.
func (w *outliner) mounts(s *stage) {
	for _, c := range s.commands {
		run, ok := c.Command.(*instructions.RunCommand)
		if !ok {
			continue
		}
		at := Location(w.g.file.Position(c.Location()))
		for _, m := range instructions.GetMounts(run) {
			w.mount(m, at)
		}
	}
}

func (w *outliner) mount(m *instructions.Mount, at Location) {
	id := m.CacheID
	switch m.Type {
	case instructions.MountTypeSecret:
		if m.Source != "" {
			id = m.Source
		}
		if id == "" {
			id = path.Base(m.Target)
		}
		if w.first("secret", id) {
			w.out.Secrets = append(w.out.Secrets, OutlineMount{id, m.Required, at})
		}
	case instructions.MountTypeSSH:
		if id == "" {
			id = "default"
		}
		if w.first("ssh", id) {
			w.out.SSH = append(w.out.SSH, OutlineMount{id, m.Required, at})
		}
	case instructions.MountTypeCache:
		if id == "" {
			id = path.Clean(m.Target)
		}
		if w.first("cache", id) {
			w.out.Cache = append(w.out.Cache, OutlineCache{id, at})
		}
	case instructions.MountTypeBind, instructions.MountTypeTmpfs: // take nothing from outside
	}
}

// first tells whether name has not been noted yet.
func (w *outliner) first(kind, name string) bool {
	key := kind + " " + name
	seen := w.seen[key]
	w.seen[key] = true
	return !seen
}
