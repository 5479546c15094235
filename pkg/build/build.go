// Package build turns a Dockerfile and its context into an image: the front door for programs, and the default wiring
// of everything behind it.
//
// A program that builds images with RUN instructions calls sandbox.Init first thing in main, since some sandboxes
// start the program again as their child.
package build

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/assemble"
	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/internal/solve"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
	"github.com/gobuild-dev/gobuild/pkg/progress"
	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
	"github.com/gobuild-dev/gobuild/pkg/snapshot/members"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// Result is a finished build.
type Result struct {
	// Image is the image. Its layers can be read until the work directory is pruned.
	Image v1.Image
	// Digest is that of the image's manifest. Exporters whose format has another manifest give theirs in Receipts.
	Digest v1.Hash
	// Receipts say where the image went, in the order of destinations and exporters.
	Receipts []push.Receipt
}

// StepError says which step failed, and holds the last lines of its output. It wraps a *sandbox.ExitError if the step's
// process ended with a status other than zero.
type StepError = solve.StepError

// Build builds an image and exports it. Nothing is exported, but layers that no manifest names yet, unless all
// steps succeed.
//
// Errors that a line of the Dockerfile causes are a *dockerfile.Error; the failure of a step is a
// *StepError; those of a registry wrap go-containerregistry's *transport.Error. When ctx is done, all
// processes are killed and the error is context.Cause(ctx).
func Build(ctx context.Context, o Options) (*Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	client, done, err := o.client()
	if err != nil {
		return nil, err
	}
	defer done()
	store, err := local.Open(ctx, o.WorkDir)
	if err != nil {
		return nil, err
	}
	exporters, err := o.exporters(client, store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	result, err := build(ctx, o, exporters, store, newBases(client, store, o.BaseDirs))
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // whatever broke because of it, such as a connection that was closed
	}
	return result, errors.Join(err, store.Close())
}

// client returns the client to use, and what to call when it is not needed any more.
func (o Options) client() (*registry.Client, func(), error) {
	if o.Registry != nil {
		return o.Registry, func() {}, nil
	}
	c, err := registry.New(registry.Options{})
	if err != nil {
		return nil, nil, err
	}
	return c, c.Close, nil
}

func build(ctx context.Context, o Options, exporters []push.Exporter, store *local.Store, b *bases) (_ *Result, err error) {
	sources := newSources(o, store)
	defer func() { err = errors.Join(err, sources.Close()) }()
	src, file, err := sources.read(ctx)
	if err != nil {
		return nil, err
	}
	p, err := plan.New(ctx, file, o.plan(src, sources, b))
	o.warn(file, p.Warnings)
	if err != nil {
		return nil, err
	}
	if p.Epoch != nil {
		o.Epoch = *p.Epoch // the Dockerfile's word is the more specific one
	}
	c := newCaches(ctx, o, store, b)
	defer c.wait()
	so := o.solving(p, src, sources, store, b, c)
	shared := o.sharedCaches(p, store, so.Mounts)
	so.Caches = shared.caches()
	so.Finished, so.Known = early(o, exporters)
	for {
		result, err := solveAndExport(ctx, o, exporters, so, shared)
		lost, ok := errors.AsType[*cache.LostError](err)
		if !ok || context.Cause(ctx) != nil || !c.steps.Lose(ctx, lost.Key) {
			return result, explain(err, file)
		}
		// All that was made meanwhile is in the work directory.
		o.warnCache(fmt.Errorf("%w; its step is made anew", lost))
	}
}

// explain shows the line of a failed step.
func explain(err error, file *dockerfile.File) error {
	if step, ok := errors.AsType[*StepError](err); ok {
		step.Excerpt = file.Excerpt(step.Step.Source)
	}
	return err
}

func solveAndExport(ctx context.Context, o Options, exporters []push.Exporter, so solve.Options, shared sharedCaches) (*Result, error) {
	results, err := solve.Solve(ctx, so)
	defer shared.save(ctx)()
	if err != nil {
		return nil, err
	}
	return export(ctx, o, exporters, results[0])
}

// solving are the options of the solver, but for what concerns exporters.
func (o Options) solving(p *plan.Plan, src *source.Context, sources *sources, store *local.Store, b *bases, c *caches) solve.Options {
	list := sync.OnceValue(func() []sandbox.Driver {
		if o.Drivers != nil {
			return o.Drivers
		}
		return o.drivers(store.LayersDir, store)
	})
	return solve.Options{
		Plan:    p,
		Context: src.Tree,
		Image:   b.pull,
		Source:  sources.open,
		Cache:   c.steps,
		Records: &records{store, o, c.records},
		Explain: o.ExplainCache,
		Share:   c.records.share(),
		Driver: func(ctx context.Context) (sandbox.Driver, error) {
			return o.driver(ctx, list())
		},
		Likely:  func() sandbox.Driver { return sandbox.Likely(list(), o.Isolation) },
		Mounts:  &given{o, store},
		Indexes: c.indexes,
		Layer: snapshot.Options{
			Compression: o.Compression,
			Level:       o.CompressionLevel,
			Dir:         store.TempDir(),
			Docker:      o.DockerMediaTypes,
			Reuse:       &members.Reuse{},
			Clamp:       o.clamp(),
		},
		Keep:     store.Keep,
		Progress: o.Progress,
		Epoch:    o.Epoch,
	}
}

// clamp is the latest time that a file in a new layer may have; zero is no limit.
func (o Options) clamp() time.Time {
	rewrite := o.RewriteTimestamps || slices.ContainsFunc(o.Outputs, func(out push.Output) bool { return out.RewriteTimestamp })
	if !rewrite {
		return time.Time{}
	}
	if o.Epoch.IsZero() {
		o.Progress.Emit(progress.Event{Time: time.Now(), Kind: progress.Warning,
			Text: "times of files are not rewritten: set SOURCE_DATE_EPOCH to the latest that they may have"})
	}
	return o.Epoch
}

// early hands finished layers, and then the config, to the exporters that can use them before the image is finished, so that little
// but a manifest is left for then. A refusal ends the
// build: the image would be refused too, after all steps had run. Any other error comes again when the image is
// exported, if it still stands in the way then.
func early(o Options, exporters []push.Exporter) (func(context.Context, *plan.Step, v1.Layer) error, func(context.Context, solve.Result) error) {
	var takers []push.LayerTaker
	for _, e := range exporters {
		if t, ok := e.(push.LayerTaker); ok {
			takers = append(takers, t)
		}
	}
	if len(takers) == 0 {
		return nil, nil
	}
	each := func(take func(push.LayerTaker) error) error {
		for _, t := range takers {
			if err := take(t); refused(err) {
				return err
			}
		}
		return nil
	}
	layer := func(ctx context.Context, _ *plan.Step, l v1.Layer) error {
		return each(func(t push.LayerTaker) error { return t.Take(ctx, l) })
	}
	if o.InlineCache {
		return layer, nil // the config says what layers are kept as, which is known in the end
	}
	return layer, func(ctx context.Context, r solve.Result) error {
		img, err := o.image(r)
		if err != nil {
			return nil //nolint:nilerr // it comes again
		}
		return each(func(t push.LayerTaker) error { return t.TakeConfig(ctx, img) })
	}
}

// refused says that a registry does not let us in.
func refused(err error) bool {
	status := registry.Status(err)
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// image assembles the image of a result.
func (o Options) image(r solve.Result) (v1.Image, error) {
	layers := make([]assemble.Layer, len(r.Layers))
	for i, l := range r.Layers {
		layers[i] = assemble.Layer{Layer: l.Layer, Created: l.Created}
	}
	fields, err := o.inlineCache(r.Layers)
	if err != nil {
		return nil, err
	}
	img, err := assemble.Image(r.Step.Image, layers, assemble.Options{
		Docker: o.DockerMediaTypes, Annotations: o.Annotations, Epoch: o.Epoch, Fields: fields,
	})
	if err != nil {
		return nil, fmt.Errorf("assemble image: %w", err)
	}
	return img, nil
}

// export gives the image to all exporters at once. When one fails the others still finish.
func export(ctx context.Context, o Options, exporters []push.Exporter, r solve.Result) (*Result, error) {
	img, err := o.image(r)
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	result := &Result{Image: img, Digest: digest}
	of := r.Step.Image.Platform // not that of the stage, which FROM --platform may have set
	platform := v1.Platform{OS: of.OS, Architecture: of.Architecture, Variant: of.Variant, OSVersion: of.OSVersion}
	receipts := make([][]push.Receipt, len(exporters))
	errs := make([]error, len(exporters))
	var wg sync.WaitGroup
	for i, e := range exporters {
		wg.Go(func() {
			receipts[i], errs[i] = e.Export(ctx, push.Artifact{Image: img, Platform: platform, Epoch: o.Epoch})
		})
	}
	wg.Wait()
	for _, r := range receipts {
		result.Receipts = append(result.Receipts, r...)
	}
	return result, errors.Join(errs...)
}
