package plan

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// epochArg is the argument that fixes the clock. Its meaning is that of reproducible-builds.org.
const epochArg = "SOURCE_DATE_EPOCH"

// findEpoch reads the time from a build argument or else from the default of a global ARG. BuildKit also takes it from
// the context or from a stage that adds a remote source.
func (g *graph) findEpoch(specs []instructions.Stage, args []instructions.ArgCommand) error {
	text, given := g.opts.BuildArgs[epochArg]
	if !given {
		text, _ = g.global.Get(epochArg)
	}
	if text == "" {
		g.dropEpoch()
		return nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		t := time.Unix(seconds, 0).UTC()
		g.epoch = &t
		g.setEpoch(strconv.FormatInt(seconds, 10))
		return nil
	}
	err = fmt.Errorf("invalid %s: %s", epochArg, text)
	for _, s := range specs {
		if text == "context" || strings.EqualFold(s.Name, text) {
			err = fmt.Errorf("%s=%s, the time of a source, is not supported yet", epochArg, text)
		}
	}
	for _, c := range args {
		for _, a := range c.Args {
			if a.Key == epochArg && !given {
				return g.file.Error(c.Location(), err)
			}
		}
	}
	return err
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

// dropEpoch makes an argument that is empty one that is not there.
func (g *graph) dropEpoch() {
	if _, ok := g.opts.BuildArgs[epochArg]; ok {
		g.opts.BuildArgs = maps.Clone(g.opts.BuildArgs)
		delete(g.opts.BuildArgs, epochArg)
		g.global.remove(epochArg)
	}
}
