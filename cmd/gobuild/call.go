package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gobuild-dev/gobuild/pkg/build"
)

// errFound ends the program because of what it has said already.
var errFound = errors.New("the check has found something")

// call is a question about a Dockerfile, which nothing is built for.
type call struct {
	source   sourceFlags
	given    givenFlags
	registry registryFlags
	format   string
}

func (q *call) register(f *pflag.FlagSet) {
	q.source.register(f)
	q.given.register(f)
	q.registry.register(f)
	f.StringVar(&q.format, "format", "text", "text or json")
	f.SortFlags = false
}

// method answers a question on standard output.
type method func(ctx context.Context, log *logrus.Logger, o build.Options, format string) error

// methods are what --call takes besides build.
func methods() map[string]method {
	return map[string]method{"check": check, "outline": outline, "targets": targets}
}

// answer is what can be printed.
type answer interface{ WriteText(io.Writer) error }

func (q *call) run(ctx context.Context, log *logrus.Logger, m method) error {
	if q.format != "text" && q.format != "json" {
		return usagef("--format %q is none of text, json", q.format)
	}
	flags := buildFlags{source: q.source, given: q.given, layer: layerFlags{compression: "gzip", format: "oci"}}
	o, err := flags.options()
	if err != nil {
		return err
	}
	if o.Registry, err = q.registry.client(func(text string) { log.Warn(text) }); err != nil {
		return err
	}
	defer o.Registry.Close()
	return m(ctx, log, o, q.format)
}

func printAnswer(a answer, format string) error {
	if format != "json" {
		return a.WriteText(os.Stdout)
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(a)
}

// parseCall takes the value of --call apart: METHOD or METHOD,format=FORMAT. Other options are refused.
func parseCall(s string) (name, format string, err error) {
	name, option, given := strings.Cut(s, ",")
	format = "text"
	if given {
		var ok bool
		if format, ok = strings.CutPrefix(option, "format="); !ok || format != "text" && format != "json" {
			return "", "", usagef("--call %q: the option %q is none of format=text, format=json", s, option)
		}
	}
	if _, ok := methods()[name]; !ok && name != "build" {
		return "", "", usagef("--call %q is none of build, check, outline, targets", name)
	}
	return name, format, nil
}

func newCheck(log *logrus.Logger) *cobra.Command {
	return newCall(log, check, &cobra.Command{
		Use:   "check",
		Short: "Look for mistakes in a Dockerfile without building it",
		Long: `Check applies the rules of Docker's build checks to all stages, or to those that --target needs, and prints what it
finds with the lines. It fetches configs of base images, but runs nothing.

Comments in the Dockerfile turn rules off: "# check=skip=Rule" at its top, or above one instruction.
The exit status is 1 if anything is found.`,
	})
}

func newOutline(log *logrus.Logger) *cobra.Command {
	return newCall(log, outline, &cobra.Command{
		Use:   "outline",
		Short: "Print the build arguments, secrets and ssh agents that a target takes",
		Long: `Outline prints the build arguments, secrets, ssh agents and caches that the build of a target takes, its stages'
included. A comment "# NAME text" right above an ARG or a FROM describes it.`,
	})
}

func newTargets(log *logrus.Logger) *cobra.Command {
	return newCall(log, targets, &cobra.Command{
		Use:   "targets",
		Short: "Print the stages of a Dockerfile",
		Long:  `Targets prints the stages of a Dockerfile. A comment "# NAME text" right above a FROM describes it.`,
	})
}

func newPlan(log *logrus.Logger) *cobra.Command {
	return newCall(log, printPlan, &cobra.Command{
		Use:   "plan",
		Short: "Print the steps that a build would take, and what each depends on",
	})
}

// newCall completes c to a command for m.
func newCall(log *logrus.Logger, m method, c *cobra.Command) *cobra.Command {
	var q call
	c.Args = noArgs
	c.RunE = func(c *cobra.Command, _ []string) error { return q.run(c.Context(), log, m) }
	q.register(c.Flags())
	c.Flags().SortFlags = false
	return c
}

func check(ctx context.Context, log *logrus.Logger, o build.Options, format string) error {
	r, err := build.Lint(ctx, o)
	if err != nil {
		return err
	}
	for _, w := range r.Notes {
		log.Warn(w)
	}
	if err := printAnswer(r, format); err != nil {
		return err
	}
	switch {
	case r.Err != nil && format != "json":
		return r.Err
	case r.Err != nil || len(r.Warnings) > 0:
		return errFound
	}
	return nil
}

func outline(ctx context.Context, _ *logrus.Logger, o build.Options, format string) error {
	a, err := build.Outline(ctx, o)
	if err != nil {
		return err
	}
	return printAnswer(a, format)
}

func targets(ctx context.Context, _ *logrus.Logger, o build.Options, format string) error {
	a, err := build.Targets(ctx, o)
	if err != nil {
		return err
	}
	return printAnswer(a, format)
}

func printPlan(ctx context.Context, log *logrus.Logger, o build.Options, format string) error {
	p, err := build.Plan(ctx, o)
	if err != nil {
		return err
	}
	for _, w := range p.Warnings {
		log.Warn(w)
	}
	return printAnswer(p, format)
}
