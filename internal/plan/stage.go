package plan

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const scratch = "scratch"

// stage is a stage of the file while its steps are being made, or an image that COPY --from or a mount names.
type stage struct {
	spec instructions.Stage
	// label stands in names of steps and in messages: the stage's name, or stage-2 for the third one.
	label string
	// external: an image that COPY --from or a mount names.
	external bool
	// context is the named context that takes the place of the base, or, if replaced, of the whole stage.
	context  *namedContext
	replaced bool
	// base is the stage that this one begins with; nil when it is an image or scratch.
	base     *stage
	commands []command
	deps     []dependency
	platform *ocispec.Platform

	from         *origin // what base is not; nil until it is known
	triggersRead bool    // those of base
	total, index int     // of steps in names
	dispatched   bool

	// What instructions change.
	last  *Step
	img   dockerspec.DockerOCIImage // copied on write: steps share its slices and maps
	vars  *vars
	dir   string
	user  string
	args  []instructions.KeyValuePairOptional // declared so far, those of base last
	marks marks
}

// command is an instruction with what it refers to.
type command struct {
	instructions.Command
	// sources are what COPY --from names, or the mounts of RUN, one for each; nil where none is named.
	sources []*stage
	trigger bool // came by ONBUILD
}

type dependency struct {
	on *stage
	by command
}

// addStages makes the stages of the file: their names and bases, but for images' configs.
func (g *graph) addStages(specs []instructions.Stage) error {
	for i, spec := range specs {
		lint := g.lint.WithMergedConfigFromComments(spec.Comments)
		res, err := g.expand.word(spec.BaseName, g.global)
		g.lintFrom(lint, spec, res)
		if err != nil {
			return g.file.Error(spec.Location, err)
		}
		if res.Result == "" {
			return g.file.Error(spec.Location, fmt.Errorf("base name (%s) should not be blank", spec.BaseName))
		}
		spec.BaseName = res.Result
		s := &stage{spec: spec, label: spec.Name}
		if s.label == "" {
			s.label = fmt.Sprintf("stage-%d", i)
		}
		if s.platform, err = g.stagePlatform(spec); err != nil {
			return g.file.Error(spec.Location, err)
		}
		g.replace(s)
		if err := g.register(s); err != nil {
			return g.file.Error(spec.Location, err)
		}
		s.total = s.countSteps()
	}
	return nil
}

// register makes s findable and finds its base. A base is found by its exact name, other than elsewhere.
func (g *graph) register(s *stage) error {
	g.stages = append(g.stages, s)
	if !s.replaced {
		s.base = g.byName[s.spec.BaseName]
	}
	if s.base == nil {
		if s.context == nil {
			s.context = g.findContext(s.spec.BaseName, s.platform)
		}
		var err error
		if s.base, err = g.aliased(s.context); err != nil {
			return err
		}
	}
	if s.spec.Name != "" {
		g.byName[strings.ToLower(s.spec.Name)] = s
	}
	return nil
}

// countSteps counts as BuildKit does for the numbers in names.
func (s *stage) countSteps() int {
	n := 0
	if s.spec.BaseName != scratch && s.base == nil {
		n = 1
	}
	for _, c := range s.spec.Commands {
		switch c.(type) {
		case *instructions.AddCommand, *instructions.CopyCommand, *instructions.RunCommand, *instructions.WorkdirCommand:
			n++
		}
	}
	return n
}

// stagePlatform is what FROM --platform asks for; nil when it does not.
func (g *graph) stagePlatform(spec instructions.Stage) (*ocispec.Platform, error) {
	if spec.Platform == "" {
		return nil, nil
	}
	lint := g.lint.WithMergedConfigFromComments(spec.Comments)
	res, err := g.expand.word(spec.Platform, g.global)
	g.lintPlatform(lint, spec, res)
	if err != nil {
		return nil, fmt.Errorf("process arguments for platform %s: %w", spec.Platform, err)
	}
	if res.Result == "" {
		return nil, g.suggestArg(fmt.Errorf("empty platform value from expression %s", spec.Platform), res)
	}
	p, err := platforms.Parse(res.Result)
	if err != nil {
		return nil, g.suggestArg(fmt.Errorf("parse platform %s: %w", spec.Platform, err), res)
	}
	return &p, nil
}

// suggestArg adds a name that is like one that was not found.
func (g *graph) suggestArg(err error, res shell.ProcessWordResult) error {
	for _, k := range sortedKeys(res.Unmatched) {
		if found, err := suggest.WrapErrorMaybe(err, k, g.global.Keys(), true); found {
			return err
		}
	}
	return err
}

// target finds the stage to build.
func (g *graph) targetStage(name string) (*stage, error) {
	if name == "" {
		return g.stages[len(g.stages)-1], nil
	}
	if s, ok := g.byName[strings.ToLower(name)]; ok {
		return s, nil
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(g.stages) {
		return g.stages[i], nil
	}
	return nil, suggest.WrapError(fmt.Errorf("target stage %q could not be found", name), name, g.stageNames(), true)
}

func (g *graph) stageNames() []string {
	names := make([]string, 0, len(g.stages))
	for _, s := range g.stages {
		if s.label != "" {
			names = append(names, s.label)
		}
	}
	return names
}

// linkStages connects stages by what they copy and mount.
func (g *graph) linkStages() error {
	for _, s := range slices.Clone(g.stages) {
		for _, c := range s.spec.Commands {
			cmd, err := g.link(s, command{Command: c})
			if err != nil {
				return err
			}
			s.commands = append(s.commands, cmd)
		}
	}
	if err := g.checkCycles(); err != nil {
		return err
	}
	if len(g.stages) == 1 {
		g.stages[0].label = ""
	}
	return nil
}

// link resolves the stages and images that c names, as dependencies of s.
func (g *graph) link(s *stage, c command) (command, error) {
	names, find := sourceNames(c.Command)
	for _, name := range names {
		var from *stage
		if name != "" {
			var err error
			if from, err = find(g, name, c.Location()); err != nil {
				return c, g.file.Error(c.Location(), err)
			}
			s.deps = append(s.deps, dependency{on: from, by: c})
		}
		c.sources = append(c.sources, from)
	}
	return c, nil
}

type finder func(g *graph, name string, at []parser.Range) (*stage, error)

// sourceNames are what an instruction names, and the way to find it.
func sourceNames(c instructions.Command) ([]string, finder) {
	var names []string
	switch c := c.(type) {
	case *instructions.CopyCommand:
		if c.From != "" {
			names = append(names, c.From)
		}
		return names, (*graph).copySource
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			names = append(names, m.From)
		}
	}
	return names, (*graph).sourceByName
}

// copySource finds what COPY --from names: a stage by its name or number, or else an image. Variables are refused rather than
// taken literally, since which stages are needed has to be known before variables are.
func (g *graph) copySource(name string, at []parser.Range) (*stage, error) {
	res, err := g.expand.word(name, newVars())
	if err != nil {
		return nil, err
	}
	if res.Result != name {
		return nil, errors.New("variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround")
	}
	if i, err := strconv.Atoi(name); err == nil {
		if i < 0 || i >= len(g.stages) || g.stages[i].external {
			return nil, fmt.Errorf("invalid stage index %d", i)
		}
		return g.stages[i], nil
	}
	return g.sourceByName(name, at)
}

// sourceByName finds a stage by its name, or else an image.
func (g *graph) sourceByName(name string, at []parser.Range) (*stage, error) {
	if s, ok := g.byName[strings.ToLower(name)]; ok {
		return s, nil
	}
	s, ok := g.images[name]
	if !ok {
		s = &stage{spec: instructions.Stage{BaseName: name, Location: at}, external: true}
		if err := g.register(s); err != nil {
			return nil, err
		}
		g.images[name] = s
	}
	return s, nil
}

// checkCycles refuses stages that copy from each other in a circle, needed or not.
func (g *graph) checkCycles() error {
	visited, path := map[*stage]bool{}, map[*stage]bool{}
	var visit func(s *stage) []parser.Range
	visit = func(s *stage) []parser.Range {
		if visited[s] {
			return nil
		}
		visited[s], path[s] = true, true
		for _, d := range s.deps {
			if path[d.on] || visit(d.on) != nil {
				return d.by.Location()
			}
		}
		delete(path, s)
		return nil
	}
	for _, s := range g.stages {
		if at := visit(s); at != nil {
			return g.file.Error(at, fmt.Errorf("circular dependency detected on stage: %s", s.label))
		}
	}
	return nil
}

// reachable is target and everything that it is made from.
func reachable(target *stage) map[*stage]bool {
	found := map[*stage]bool{}
	todo := []*stage{target}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if found[s] {
			continue
		}
		found[s] = true
		if s.base != nil {
			todo = append(todo, s.base)
		}
		for _, d := range s.deps {
			todo = append(todo, d.on)
		}
	}
	return found
}
