package plan

import (
	"fmt"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	historyComment = "buildkit.dockerfile.v0"

	// historySuffix marks in created_by the instructions that BuildKit runs or copies for.
	historySuffix = " # buildkit"

	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// dispatchStage makes the steps of s.
func (g *graph) dispatchStage(s *stage) error {
	if err := g.begin(s); err != nil {
		return g.file.Error(s.spec.Location, err)
	}
	s.dispatched = true
	for _, c := range s.commands {
		if err := g.dispatch(s, c); err != nil {
			return g.file.Error(c.Location(), err)
		}
	}
	return nil
}

// begin takes over what s begins with.
func (g *graph) begin(s *stage) error {
	if b := s.base; b != nil {
		s.platform, s.last, s.img = b.platform, b.last, b.img
		s.img.History = slices.Clip(s.img.History) // both stages append
		s.img.Config.OnBuild = nil
		s.vars, s.dir, s.user = b.vars.clone(), b.dir, b.user
		s.args = append(s.args, b.args...)
		s.marks.workdir = b.marks.workdir
		cost := (len(b.vars.values) + len(b.args) + len(s.img.History)) * entrySize
		if err := g.budget.spend(cost); err != nil {
			return err
		}
	} else {
		s.img = *s.from.config
		s.vars, s.dir = newVars(), "/"
	}
	if s.platform.OS == "windows" {
		return fmt.Errorf("platform %s is not supported", formatPlatform(*s.platform))
	}
	s.inherit()
	if s.base == nil {
		g.pull(s)
	}
	return nil
}

// inherit makes the image's config the state that instructions start from.
func (s *stage) inherit() {
	c := &s.img.Config
	if _, ok := shell.EnvsFromSlice(c.Env).Get("PATH"); !ok {
		c.Env = append(slices.Clip(c.Env), "PATH="+defaultPath)
	}
	s.vars.setAll(c.Env)
	if c.WorkingDir != "" {
		c.WorkingDir = joinWorkdir(c.WorkingDir, c.WorkingDir)
		s.dir = c.WorkingDir
	}
	if c.User != "" {
		s.user = c.User
	}
}

// pull makes the first step of a stage. Stages that begin with the same share it.
func (g *graph) pull(s *stage) {
	op := s.from.op
	if op == nil {
		op = Pull{Ref: s.from.ref, Digest: s.from.digest}
	}
	key := fmt.Sprintf("%#v %s", op, formatPlatform(*s.platform))
	if step, ok := g.pulls[key]; ok {
		s.last = step
		return
	}
	g.addStep(s, &Step{Op: op, Name: s.from.name, Source: g.file.Position(s.spec.Location)})
	g.pulls[key] = s.last
}

// source is the last step of a stage or an image whose files are read; nil for a stage that has no steps yet.
func (g *graph) source(s *stage) (*Step, error) {
	if s.dispatched || !s.external {
		return s.last, nil
	}
	if s.base != nil && !s.base.dispatched {
		return nil, nil
	}
	if err := g.begin(s); err != nil {
		return nil, err
	}
	s.dispatched = true
	return s.last, nil
}

// addStep puts step on top of s.
func (g *graph) addStep(s *stage, step *Step) {
	img := s.img
	step.Image = &img
	step.Base = s.last
	step.Platform = toV1(*s.platform)
	s.last = step
	g.steps = append(g.steps, step)
}

// call is one instruction while it is dispatched.
type call struct {
	g    *graph
	s    *stage
	cmd  command
	lint *linter.Linter

	// What the step is to be.
	op   Op
	name string
	uses []*Step
	adds []ocispec.History
}

// dispatch makes the step of one instruction.
func (g *graph) dispatch(s *stage, c command) error {
	k := &call{g: g, s: s, cmd: c, op: Config{}, lint: g.lint.WithMergedConfigFromComments(c.Comments())}
	said, err := readComments(c.Comments())
	if err != nil {
		return err
	}
	if err := k.expandWords(); err != nil {
		return err
	}
	if err := k.run(); err != nil {
		return err
	}
	if k.name == "" {
		k.name = k.configName()
	}
	if err := g.budget.spend(len(k.name) + stepSize); err != nil {
		return err
	}
	g.addStep(s, &Step{
		Op: k.op, Uses: k.uses, Name: k.name, Source: g.file.Position(c.Location()), Adds: k.adds,
		NoCache: g.noCache(s), CacheTTL: said.ttl,
	})
	return nil
}

// expandWords expands the variables of an instruction in place. All of its words see the variables as they were before
// it. ARG does it itself: a default that is not used may be wrong.
func (k *call) expandWords() error {
	expand := func(e *expander) instructions.SingleWordExpander {
		return func(w string) (string, error) {
			res, err := e.word(w, k.s.vars)
			k.lintUndefined(res.Unmatched)
			return res.Result, err
		}
	}
	_, isArg := k.cmd.Command.(*instructions.ArgCommand)
	if c, ok := k.cmd.Command.(instructions.SupportsSingleWordExpansion); ok && !isArg {
		if err := c.Expand(expand(k.g.expand)); err != nil {
			return err
		}
	}
	if c, ok := k.cmd.Command.(instructions.SupportsSingleWordExpansionRaw); ok {
		return c.ExpandRaw(expand(k.g.expand.heredoc()))
	}
	return nil
}

func (k *call) run() error {
	switch c := k.cmd.Command.(type) {
	case *instructions.AddCommand:
		return k.add(c)
	case *instructions.ArgCommand:
		return k.arg(c)
	case *instructions.CmdCommand:
		return k.command(c)
	case *instructions.CopyCommand:
		return k.copy(c)
	case *instructions.EntrypointCommand:
		return k.entrypoint(c)
	case *instructions.EnvCommand:
		return k.env(c)
	case *instructions.ExposeCommand:
		return k.expose(c)
	case *instructions.HealthCheckCommand:
		return k.healthcheck(c)
	case *instructions.LabelCommand:
		return k.label(c)
	case *instructions.MaintainerCommand:
		return k.maintainer(c)
	case *instructions.OnbuildCommand:
		return k.onbuild(c)
	case *instructions.RunCommand:
		return k.runCommand(c)
	case *instructions.ShellCommand:
		return k.shell(c)
	case *instructions.StopSignalCommand:
		return k.stopSignal(c)
	case *instructions.UserCommand:
		return k.user(c)
	case *instructions.VolumeCommand:
		return k.volume(c)
	case *instructions.WorkdirCommand:
		return k.workdir(c)
	}
	return fmt.Errorf("instruction %s is not supported", k.cmd.Name())
}

// record adds an entry to the history.
func (k *call) record(by string, layer bool) error {
	if err := k.g.budget.spend(len(by) + entrySize*3); err != nil {
		return err
	}
	h := append(k.s.img.History, ocispec.History{CreatedBy: by, Comment: historyComment, EmptyLayer: !layer})
	k.s.img.History = h
	k.adds = h[len(h)-1 : len(h) : len(h)]
	return nil
}
