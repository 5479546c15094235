package main

import (
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// newRoot assembles the command line. The root command itself builds.
func newRoot(log *logrus.Logger) *cobra.Command {
	root := newBuild(log)
	root.Use = "gobuild [flags]"
	root.Short = "Build a container image from a Dockerfile and push it, without a daemon"
	root.Long = `Gobuild builds a container image from a Dockerfile and pushes it to a registry.

It needs no daemon and no privileges: RUN instructions run in the best sandbox that the place allows
(see 'gobuild doctor').`
	root.Example = `  # Build the present directory and push it.
  gobuild --context . --destination registry.example.com/team/app:1.0

  # Build one stage into a local OCI layout, without pushing.
  gobuild --target test --no-push --oci-layout-path ./out

  # Get a stage's files.
  gobuild --target binaries --output type=local,dest=./bin`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return unknownFlag(c, err) })
	root.AddCommand(newCheck(log), newOutline(log), newTargets(log), newPlan(log), newCache(log), newWarm(log), newPrune(), newDoctor(), newVersion())
	// A template of our own would bring in text/template, and with it six megabytes: it calls methods by their names, so that the
	// linker has to keep them all.
	root.Version = version()
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// noArgs refuses words that belong to no flag: usually a flag's value that lost its quotes.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q: the context is given by --context", args[0])
	}
	return nil
}
