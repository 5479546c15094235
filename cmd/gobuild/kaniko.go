package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// kanikoWarmer is the name by which Kaniko's images have their warmer; gobuild's image has it as a link. So it has the
// executor, which needs nothing of its own.
const kanikoWarmer = "warmer"

// kanikoCache is where Kaniko's executor looks for base images that its warmer has fetched.
const kanikoCache = "/cache"

// kanikoFlags are those of Kaniko's that say how it goes about a build, rather than what is built. They are taken, so that a
// job need not be rewritten, and change nothing.
type kanikoFlags struct {
	set *pflag.FlagSet
}

// register adds the flags, hidden.
func (k *kanikoFlags) register(f *pflag.FlagSet) {
	k.set = f
	const usage = "a flag of Kaniko's that changes nothing here"
	add := func(name string, define func()) {
		if f.Lookup(name) == nil {
			define()
			f.Lookup(name).Hidden = true
		}
	}
	for _, name := range []string{
		"use-new-run", "ignore-var-run", "skip-unused-stages", "force-build-metadata", "compressed-caching", "force", "cleanup",
		"pre-cleanup", "preserve-context", "materialize", "log-timestamp", "skip-push-permission-check",
		"single-snapshot", "push-ignore-immutable-tag-errors",
	} {
		add(name, func() { f.Bool(name, false, usage) })
	}
	for _, name := range []string{
		"snapshot-mode", "log-format", "kaniko-dir", "image-fs-extract-retry", "image-download-retry", "cache-ttl", "ignore-path",
	} {
		add(name, func() { f.StringArray(name, nil, usage) })
	}
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name {
		case "customPlatform":
			name = "custom-platform"
		case "tarPath":
			name = "tar-path"
		case "snapshotMode":
			name = "snapshot-mode"
		case "whitelist-var-run":
			name = "ignore-var-run"
		}
		return pflag.NormalizedName(name)
	})
}

// warnings name flags without which Kaniko would have made another image.
func (k *kanikoFlags) warnings() []string {
	var list []string
	for name, instead := range map[string]string{
		"single-snapshot":                  "each instruction that changes files makes a layer",
		"ignore-path":                      "a path of which nothing shall be in the image has to be removed by the step that makes it",
		"push-ignore-immutable-tag-errors": "a registry that refuses to change a tag fails the build",
	} {
		if f := k.set.Lookup(name); f != nil && f.Changed && f.Value.String() != "false" {
			list = append(list, fmt.Sprintf("--%s changes nothing here: %s", name, instead))
		}
	}
	slices.Sort(list)
	return list
}

// kanikoEnvironment gives flags that were not given the values of Kaniko's variables.
func kanikoEnvironment(f *pflag.FlagSet) error {
	for variable, name := range map[string]string{
		"KANIKO_NO_PUSH": "no-push", "KANIKO_REGISTRY_MAP": "registry-map", "KANIKO_REGISTRY_MIRROR": "registry-mirror",
	} {
		value, flag := os.Getenv(variable), f.Lookup(name)
		if value == "" || flag == nil || flag.Changed {
			continue
		}
		if err := f.Set(name, value); err != nil {
			return usagef("%s=%s: %v", variable, value, err)
		}
	}
	return nil
}

// defaultBases are the base images that Kaniko's executor would use too: with --cache, those in its directory.
func (c *cacheFlags) defaultBases() []string {
	if len(c.bases) > 0 || !c.kaniko {
		return c.bases
	}
	if _, err := os.Stat(filepath.Join(kanikoCache, "oci-layout")); err != nil {
		return nil
	}
	return []string{kanikoCache}
}

// newWarmer is the warm command with the flags of Kaniko's warmer, of which some have other letters than gobuild's.
func newWarmer(log *logrus.Logger) *cobra.Command {
	var w warmFlags
	var kaniko kanikoFlags
	var verbosity string
	c := &cobra.Command{
		Use:   kanikoWarmer + " [flags]",
		Short: "Fetch base images before a build needs them, as Kaniko's warmer does",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := setVerbosity(log, verbosity); err != nil {
				return err
			}
			return w.run(c, log)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&w.images, "image", "i", nil, "`reference` of an image to fetch (repeatable)")
	f.StringVarP(&w.build.source.dockerfile, "dockerfile", "d", "", "`path` of a Dockerfile whose base images are fetched")
	f.StringArrayVar(&w.build.source.buildArgs, "build-arg", nil, "`NAME=value` of an ARG of the Dockerfile (repeatable)")
	f.StringVarP(&w.layout, "cache-dir", "c", kanikoCache, "OCI layout that the images go to")
	f.StringVar(&w.build.source.platform, "custom-platform", "", "`os/arch[/variant]` to fetch (default linux on this machine's architecture)")
	f.BoolP("force", "f", false, "the same as without it: what a tag stands for is asked for each time")
	f.StringVarP(&verbosity, "verbosity", "v", "info", "least severe messages to show: debug, info, warn or error")
	w.build.registry.register(f)
	registerWorkDir(f, &w.build.workDir)
	kaniko.register(f)
	f.SortFlags = false
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return unknownFlag(c, err) })
	return c
}

// invoked returns the command that the program is by its name.
func invoked(log *logrus.Logger, name string) *cobra.Command {
	if filepath.Base(name) == kanikoWarmer {
		return newWarmer(log)
	}
	return newRoot(log)
}
