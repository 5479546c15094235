package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// New plans the build of f. The plan is the one that BuildKit's Dockerfile frontend would make, step by step, with
// the image that each step leads to. What is not supported is an error.
//
// Errors that a line of f causes, or a base image that it names, are a *dockerfile.Error. When ctx is done
// the error is context.Cause(ctx). With an error the plan is not nil but has nothing except the warnings so far.
func New(ctx context.Context, f *dockerfile.File, o Options) (*Plan, error) {
	p := &Plan{}
	graphs, err := p.plan(ctx, f, o)
	if graphs != nil {
		p.warn(graphs[0])
	}
	if err == nil {
		err = p.lintError(graphs[0])
	}
	if err == nil {
		p.join(graphs)
	}
	return p, err
}

// plan makes the graphs of all platforms. They are there, unfinished, with an error that comes from planning them.
func (p *Plan) plan(ctx context.Context, f *dockerfile.File, o Options) ([]*graph, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	ignored, err := newIgnored(o.Ignore)
	if err != nil {
		return nil, err
	}
	build, targets := o.platforms()
	shared := shared{
		file:     f,
		opts:     o,
		build:    build,
		implicit: len(o.Platforms) == 0,
		multiple: len(targets) > 1,
		resolver: &resolver{bases: o.Bases, known: map[string]*lookup{}},
		budget:   &budget{},
		ignored:  ignored,
		cancel:   cancel,
	}
	graphs, err := newGraphs(shared, targets, p)
	if err != nil {
		return nil, err
	}
	var group errgroup.Group
	for _, g := range graphs {
		group.Go(func() error {
			err := g.plan(ctx)
			if err != nil {
				cancel(err)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		// The first error of all, not one that a cancellation made of it.
		return graphs, context.Cause(ctx)
	}
	return graphs, nil
}

// platforms are that of this machine and those to build for.
func (o Options) platforms() (build ocispec.Platform, targets []ocispec.Platform) {
	build = fromV1(o.BuildPlatform)
	if o.BuildPlatform.OS == "" {
		build = platforms.Normalize(platforms.DefaultSpec())
	}
	for _, p := range o.Platforms {
		targets = append(targets, fromV1(p))
	}
	if len(targets) == 0 {
		targets = []ocispec.Platform{build}
	}
	return build, targets
}

// newLinter makes a linter whose findings become warnings of p.
func newLinter(f *dockerfile.File, buildArgs map[string]string, p *Plan) (*linter.Linter, error) {
	report := func(found dockerfile.Finding) {
		p.Warnings = append(p.Warnings, Warning{
			Pos: found.Pos, Rule: found.Rule, Description: found.Description, URL: found.URL, Text: found.Text,
		})
	}
	text, given := buildArgs["BUILDKIT_DOCKERFILE_CHECK"]
	if !given {
		return f.Linter(report), nil
	}
	c, err := linter.ParseLintOptions(text)
	if err != nil {
		return nil, fmt.Errorf("parse build argument BUILDKIT_DOCKERFILE_CHECK: %w", err)
	}
	return f.LinterWith(*c, report), nil
}

// shared is what the graphs of all platforms have in common.
type shared struct {
	file     *dockerfile.File
	opts     Options
	build    ocispec.Platform
	implicit bool // nobody asked for a platform
	multiple bool // more than one was asked for
	resolver *resolver
	budget   *budget
	ignored  *ignored
	// cancel ends the work for all platforms.
	cancel context.CancelCauseFunc
}

// graph makes the steps for one platform.
type graph struct {
	shared
	targetPlatform ocispec.Platform
	lint           *linter.Linter
	expand         *expander
	global         *vars // arguments before the first FROM
	globalNames    []string
	declared       map[string]bool // by any ARG of the file
	proxies        []string
	epoch          *time.Time

	stages []*stage // those of the file, then images that COPY --from names
	byName map[string]*stage
	images map[string]*stage // those that COPY --from names, as it names them
	pulls  map[string]*Step
	steps  []*Step
	goal   *Step
}

// newGraphs makes a graph without steps for each target. Findings of the first one become warnings of p; the others
// would say the same.
func newGraphs(s shared, targets []ocispec.Platform, p *Plan) ([]*graph, error) {
	first, err := newLinter(s.file, s.opts.BuildArgs, p)
	if err != nil {
		return nil, err
	}
	var graphs []*graph
	for i, target := range targets {
		if target.OS == "windows" {
			return nil, fmt.Errorf("platform %s is not supported", formatPlatform(target))
		}
		g := &graph{
			shared:         s,
			targetPlatform: target,
			lint:           first,
			expand:         &expander{lex: shell.NewLex(s.file.Escape), budget: s.budget},
			byName:         map[string]*stage{},
			images:         map[string]*stage{},
			pulls:          map[string]*Step{},
		}
		if i > 0 {
			g.lint = linter.New(&linter.Config{})
		}
		graphs = append(graphs, g)
	}
	return graphs, nil
}

// plan makes the steps that the target needs.
func (g *graph) plan(ctx context.Context) error {
	specs, args, err := g.file.Instructions(g.lint)
	if err != nil {
		return err
	}
	g.lintFile(specs)
	g.declared = declaredArgs(specs, args)
	g.globalNames = sortedKeys(declaredArgs(nil, args))
	g.proxies = proxies(g.opts.BuildArgs)
	g.global = g.platformArgs(specs)
	g.lintDefaults(specs, args)
	if err := addGlobalArgs(g.global, args, g.opts.BuildArgs, g.file, g.expand); err != nil {
		return err
	}
	if err := g.findEpoch(ctx, specs, args); err != nil {
		return err
	}
	if err := g.addStages(specs); err != nil {
		return err
	}
	target, err := g.targetStage(g.opts.Target)
	if err != nil {
		return err
	}
	if err := g.linkStages(); err != nil {
		return err
	}
	needed, err := g.resolve(ctx, target)
	if err != nil {
		return err
	}
	for _, s := range g.stages {
		if (needed[s] || g.opts.allStages) && !s.external {
			if err := g.dispatchStage(s); err != nil {
				return err
			}
		}
	}
	return g.finish(target)
}

// platformArgs are the arguments that need no declaration before the first FROM.
func (g *graph) platformArgs(specs []instructions.Stage) *vars {
	target := g.opts.Target
	if target == "" {
		target = specs[len(specs)-1].Name
	}
	return platformArgs(g.build, g.targetPlatform, target, g.opts.BuildArgs)
}

// finish makes the image of target the one that is asked for.
func (g *graph) finish(target *stage) error {
	img := target.img
	if len(g.opts.Labels) > 0 {
		img.Config.Labels = cloneMap(img.Config.Labels, len(g.opts.Labels))
		for k, v := range g.opts.Labels {
			img.Config.Labels[k] = v
		}
	}
	if p := g.targetPlatform; !g.implicit {
		same := p.OS == img.OS && p.Architecture == img.Architecture
		img.OS, img.Architecture = p.OS, p.Architecture
		if p.Variant != "" || !same {
			img.Variant = p.Variant
		}
		if p.OSVersion != "" || !same {
			img.OSVersion = p.OSVersion
		}
		if p.OSFeatures != nil {
			img.OSFeatures = p.OSFeatures
		}
	}
	img.Platform = platforms.Normalize(img.Platform)
	target.last.Image = &img
	g.goal = target.last
	return nil
}

// join puts the graphs together and numbers their steps.
func (p *Plan) join(graphs []*graph) {
	for _, g := range graphs {
		p.Steps = append(p.Steps, g.steps...)
		p.Goals = append(p.Goals, g.goal)
	}
	p.Steps = merge(p.Steps, p.Goals)
	for i, s := range p.Steps {
		s.ID = i + 1
	}
	p.Epoch = graphs[0].epoch
}

// lintError is an error when there are findings and the file wants them to be one.
func (p *Plan) lintError(g *graph) error {
	if !g.lint.ReturnAsError || len(*g.lint.CalledRules) == 0 {
		return nil
	}
	rules := slices.Compact(slices.Sorted(slices.Values(*g.lint.CalledRules)))
	first := p.Warnings[slices.IndexFunc(p.Warnings, func(w Warning) bool { return w.Rule != "" })]
	return &dockerfile.Error{
		Pos:     first.Pos,
		Err:     fmt.Errorf("lint violation found for rules: %s", strings.Join(rules, ", ")),
		Excerpt: g.file.Excerpt(first.Pos),
	}
}
