package build

import (
	"context"
	"errors"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// Plan returns the plan of a build without running it. It fetches the configs of base images.
func Plan(ctx context.Context, o Options) (*plan.Plan, error) {
	return look(ctx, o, plan.New)
}

// Lint returns what the checks of the Dockerfile have to say, of all stages unless there is a target. A mistake that
// a build would fail with is in the report. It fetches the configs of base images.
func Lint(ctx context.Context, o Options) (*plan.Report, error) {
	return look(ctx, o, plan.Check)
}

// Outline returns the build arguments, secrets and other mounts that the build of the target takes. It fetches the
// configs of base images.
func Outline(ctx context.Context, o Options) (*plan.Outline, error) {
	return look(ctx, o, plan.NewOutline)
}

// Targets returns the stages of the Dockerfile. It needs no base images.
func Targets(ctx context.Context, o Options) (*plan.Targets, error) {
	return look(ctx, o, func(_ context.Context, f *dockerfile.File, _ plan.Options) (*plan.Targets, error) {
		return plan.ListTargets(f)
	})
}

// look reads the context and asks a question of its Dockerfile.
func look[T any](ctx context.Context, o Options, ask func(context.Context, *dockerfile.File, plan.Options) (*T, error)) (_ *T, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	client, done, err := o.client()
	if err != nil {
		return nil, err
	}
	defer done()
	sources := newSources(o, nil)
	defer func() { err = errors.Join(err, sources.Close()) }()
	src, file, err := sources.read(ctx)
	if err != nil {
		return nil, err
	}
	return ask(ctx, file, o.plan(src, sources, newBases(client, nil, nil)))
}

// plan are the options of the plan.
func (o Options) plan(src *source.Context, s *sources, b *bases) plan.Options {
	var platforms []v1.Platform
	if o.Platform.OS != "" {
		platforms = []v1.Platform{o.Platform}
	}
	return plan.Options{
		BuildArgs:     o.BuildArgs,
		Target:        o.Target,
		Platforms:     platforms,
		BuildPlatform: HostPlatform(),
		Labels:        o.Labels,
		Ignore:        src.Ignore,
		Contexts:      o.Contexts,
		Hostname:      o.Hostname,
		Hosts:         o.Hosts,
		ShmSize:       o.ShmSize,
		Allow:         o.Allow,
		NoCacheFilter: o.NoCacheFilter,
		Bases:         b,
		ContextTime:   src.Time,
		SourceTime:    s.time,
	}
}

// warn emits warnings about f.
func (o Options) warn(f *dockerfile.File, warnings []plan.Warning) {
	for _, w := range warnings {
		o.Progress.Emit(progress.Event{
			Time: time.Now(), Kind: progress.Warning, Text: dockerfile.Printable(w.Text),
			File: w.Pos.File, Line: w.Pos.Line, EndLine: w.Pos.EndLine,
			Rule: w.Rule, URL: w.URL, Excerpt: f.Excerpt(w.Pos).String(),
		})
	}
}
