package main

import (
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/gobuild-dev/gobuild/pkg/build"
)

// warmFlags say what to fetch, and where to.
type warmFlags struct {
	build  buildFlags // of which it has those of the source
	images []string
	layout string
}

func newWarm(log *logrus.Logger) *cobra.Command {
	var w warmFlags
	c := &cobra.Command{
		Use:   "warm",
		Short: "Fetch base images before a build needs them",
		Long: `Warm fetches base images into the work directory, or into an OCI layout that builds read with --cache-dir.

What is there already is not fetched again.`,
		Example: `  # Fetch what the Dockerfile begins with.
  gobuild warm --dockerfile Dockerfile

  # Fill a volume that many builds mount.
  gobuild warm --image debian:12 --image golang:1.26 --cache-dir /cache`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return w.run(c, log) },
	}
	f := c.Flags()
	w.build.source.register(f)
	w.build.registry.register(f)
	f.StringArrayVarP(&w.images, "image", "i", nil, "`reference` of an image to fetch (repeatable)")
	f.StringVar(&w.layout, "cache-dir", "", "OCI layout that the images go to, instead of the work directory")
	registerWorkDir(f, &w.build.workDir)
	f.SortFlags = false
	return c
}

func (w *warmFlags) run(c *cobra.Command, log *logrus.Logger) error {
	fromDockerfile := c.Flags().Changed("dockerfile") || c.Flags().Changed("context")
	if len(w.images) == 0 && !fromDockerfile {
		return usagef("nothing to fetch: give an --image, or a --dockerfile or a --context")
	}
	w.build.layer = layerFlags{compression: "gzip", format: "oci"}
	o, err := w.build.options()
	if err != nil {
		return err
	}
	if o.Registry, err = w.build.registry.client(func(text string) { log.Warn(text) }); err != nil {
		return err
	}
	defer o.Registry.Close()
	list, err := build.Warm(c.Context(), build.WarmOptions{
		Options: o, FromDockerfile: fromDockerfile, Images: w.images, Layout: w.layout,
	})
	for _, img := range list {
		fmt.Printf("%s %s\n", img.Ref, img.Digest)
	}
	return err
}
