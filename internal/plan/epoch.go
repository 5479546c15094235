package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// epochArg is the argument that fixes the clock. Its meaning is that of reproducible-builds.org.
const epochArg = "SOURCE_DATE_EPOCH"

// contextEpoch is the value of epochArg that stands for the time of the build context.
const contextEpoch = "context"

// findEpoch takes the time from a build argument or else from the default of a global ARG, which then has that time as
// its value. A source that has no time is as good as no argument, and so is an empty build argument; a global ARG that
// is empty stays.
func (g *graph) findEpoch(ctx context.Context, specs []instructions.Stage, args []instructions.ArgCommand) error {
	text, given := g.opts.BuildArgs[epochArg]
	if !given {
		text, _ = g.global.Get(epochArg)
	}
	t, err := g.epochOf(ctx, text, specs)
	if err != nil {
		if given {
			return err
		}
		return g.epochError(args, err)
	}
	if t == nil {
		if given || text != "" {
			g.dropEpoch()
		}
		return nil
	}
	seconds := t.Unix()
	utc := time.Unix(seconds, 0).UTC()
	g.epoch = &utc
	g.setEpoch(strconv.FormatInt(seconds, 10))
	return nil
}

// epochError puts err at the global ARG that gives the time, unless it has a place already.
func (g *graph) epochError(args []instructions.ArgCommand, err error) error {
	for _, c := range args {
		for _, a := range c.Args {
			if a.Key == epochArg {
				return g.file.Error(c.Location(), err)
			}
		}
	}
	return err
}

// epochOf is the time that a value of the argument means: a number of seconds, that of the context, that of a named
// context, or that of what a stage fetches. It is nil when there is none.
func (g *graph) epochOf(ctx context.Context, text string, specs []instructions.Stage) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		t := time.Unix(seconds, 0)
		return &t, nil
	}
	if text == contextEpoch {
		return known(g.contextTime(ctx))
	}
	if c := g.findContext(text, nil); c != nil {
		return known(g.namedTime(ctx, c))
	}
	for _, spec := range specs {
		if strings.EqualFold(spec.Name, text) {
			op, err := g.epochSource(spec)
			if err != nil {
				return nil, g.file.Error(spec.Location, err)
			}
			return known(g.sourceTime(ctx, op))
		}
	}
	return nil, fmt.Errorf("invalid %s: %s", epochArg, text)
}

func (g *graph) contextTime(ctx context.Context) (time.Time, error) {
	if g.opts.ContextTime == nil {
		return time.Time{}, nil
	}
	t, err := g.opts.ContextTime(ctx)
	if err != nil {
		err = fmt.Errorf("get time of the build context: %w", err)
	}
	return t, err
}

func (g *graph) sourceTime(ctx context.Context, op Op) (time.Time, error) {
	if g.opts.SourceTime == nil {
		return time.Time{}, nil
	}
	t, err := g.opts.SourceTime(ctx, op)
	if err != nil {
		err = fmt.Errorf("get time of source: %w", err)
	}
	return t, err
}

// namedTime is the time of a named context, which only one that is fetched has.
func (g *graph) namedTime(ctx context.Context, c *namedContext) (time.Time, error) {
	from, err := c.origin(g.targetPlatform)
	if err != nil {
		return time.Time{}, err
	}
	switch from.op.(type) {
	case HTTP, Git:
		return g.sourceTime(ctx, from.op)
	}
	return time.Time{}, nil
}

// known is a time unless it is zero.
func known(t time.Time, err error) (*time.Time, error) {
	if err != nil || t.IsZero() {
		return nil, err
	}
	return &t, nil
}

// epochSource is what a stage fetches that exists for its time: FROM scratch and one ADD of a URL or a repository, with
// nothing else but ARG. The arguments before the first FROM need no declaration in it, as in BuildKit.
func (g *graph) epochSource(spec instructions.Stage) (Op, error) {
	vars := g.global.clone()
	vars.remove(epochArg)
	base, err := g.expand.word(spec.BaseName, vars)
	if err != nil {
		return nil, err
	}
	if base.Result != scratch {
		return nil, fmt.Errorf("%s=%s: the stage has a base; one that gives the time is FROM scratch", epochArg, spec.Name)
	}
	var source Op
	for _, cmd := range spec.Commands {
		switch c := cmd.(type) {
		case *instructions.ArgCommand:
			if err := addGlobalArgs(vars, []instructions.ArgCommand{*c}, g.opts.BuildArgs, g.file, g.expand); err != nil {
				return nil, err
			}
		case *instructions.AddCommand:
			if source != nil {
				return nil, fmt.Errorf("%s=%s: a stage that gives the time has one ADD, not two", epochArg, spec.Name)
			}
			if source, err = g.epochAdd(c, vars); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%s=%s: a stage that gives the time has one ADD and else only ARG, not %s", epochArg, spec.Name, strings.ToUpper(cmd.Name()))
		}
	}
	if source == nil {
		return nil, fmt.Errorf("%s=%s: the stage has no ADD of a URL or a git repository", epochArg, spec.Name)
	}
	return source, nil
}

// epochAdd is what an ADD fetches.
func (g *graph) epochAdd(c *instructions.AddCommand, vars *vars) (Op, error) {
	if len(c.SourceContents) > 0 || len(c.SourcePaths) != 1 {
		return nil, errors.New("an ADD that gives the time has one source")
	}
	src, err := g.expand.word(c.SourcePaths[0], vars)
	if err != nil {
		return nil, err
	}
	sum, err := g.expand.word(c.Checksum, vars)
	if err != nil {
		return nil, err
	}
	add := *c
	add.Checksum = sum.Result
	op, err := remoteSource(&add, src.Result)
	if err == nil && op == nil {
		err = fmt.Errorf("%q has no time: it is neither a URL nor a git repository", src.Result)
	}
	return op, err
}

// setEpoch gives the argument its canonical value, wherever it has one.
func (g *graph) setEpoch(value string) {
	if _, ok := g.opts.BuildArgs[epochArg]; ok {
		g.opts.BuildArgs = maps.Clone(g.opts.BuildArgs)
		g.opts.BuildArgs[epochArg] = value
	}
	if _, ok := g.global.Get(epochArg); ok {
		g.global.set(epochArg, value)
	}
}

// dropEpoch makes the argument one that is not there.
func (g *graph) dropEpoch() {
	if _, ok := g.opts.BuildArgs[epochArg]; ok {
		g.opts.BuildArgs = maps.Clone(g.opts.BuildArgs)
		delete(g.opts.BuildArgs, epochArg)
	}
	g.global.remove(epochArg)
}
