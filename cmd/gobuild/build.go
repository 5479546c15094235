package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/progress"
)

// buildFlags are those of the root command.
type buildFlags struct {
	source   sourceFlags
	given    givenFlags
	registry registryFlags
	layer    layerFlags
	output   outputFlags
	cache    cacheFlags
	mounts   cacheMountFlags
	kaniko   kanikoFlags
	profile  profileFlags

	annotations                  []string
	workDir, isolation, progress string
	verbosity                    string
	disposable                   bool
	call                         string
	check                        bool
}

func (b *buildFlags) register(f *pflag.FlagSet) {
	b.source.register(f)
	b.given.register(f)
	b.output.register(f)
	b.registry.register(f)
	b.layer.register(f)
	b.cache.register(f)
	b.mounts.register(f)
	f.StringArrayVar(&b.annotations, "annotation", nil, "`name=value` to put into the manifest (repeatable)")
	f.StringVar(&b.isolation, "isolation", "auto", "how RUN is isolated: auto, overlay, directory, inplace or chroot (see 'gobuild doctor')")
	registerDisposable(f, &b.disposable)
	f.StringVar(&b.call, "call", "build", "what to do: build, or print what 'gobuild check', 'outline' or 'targets' print; with ,format=json as JSON")
	f.BoolVar(&b.check, "check", false, "the same as --call=check")
	f.StringVar(&b.progress, "progress", "auto", "how progress is shown: auto, tty, plain, json or quiet")
	f.StringVarP(&b.verbosity, "verbosity", "v", "info", "least severe messages to show: debug, info, warn or error")
	registerWorkDir(f, &b.workDir)
	b.kaniko.register(f)
	b.profile.register(f)
}

func registerWorkDir(f *pflag.FlagSet, dir *string) {
	f.StringVar(dir, "work-dir", "", "directory for what is kept between builds (default gobuild in the user's cache directory)")
}

func registerDisposable(f *pflag.FlagSet, disposable *bool) {
	f.BoolVar(disposable, "disposable-container", false, "let RUN use this container's own files, which are put aside meanwhile, as in gobuild's own image (--isolation=inplace)")
}

func newBuild(log *logrus.Logger) *cobra.Command {
	var flags buildFlags
	c := &cobra.Command{
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := kanikoEnvironment(c.Flags()); err != nil {
				return err
			}
			return flags.run(c.Context(), log)
		},
	}
	flags.register(c.Flags())
	c.Flags().SortFlags = false
	return c
}

func (b *buildFlags) run(ctx context.Context, log *logrus.Logger) (err error) {
	if err := setVerbosity(log, b.verbosity); err != nil {
		return err
	}
	if b.check {
		b.call = "check"
	}
	name, format, err := parseCall(b.call)
	if err != nil {
		return err
	}
	if m, ok := methods()[name]; ok {
		q := call{source: b.source, given: b.given, registry: b.registry, format: format}
		return q.run(ctx, log, m)
	}
	stop, err := b.profile.start()
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	defer logAllocations(log)
	return b.build(ctx)
}

func setVerbosity(log *logrus.Logger, word string) error {
	level, err := logrus.ParseLevel(word)
	if err != nil {
		return usagef("--verbosity %q is none of debug, info, warn, error", word)
	}
	log.SetLevel(level)
	return nil
}

// build builds and exports.
func (b *buildFlags) build(ctx context.Context) (err error) {
	o, err := b.options()
	if err != nil {
		return err
	}
	sink, err := newPrinter(b.progress)
	if err != nil {
		return err
	}
	defer sink.Close()
	o.Progress = sink
	warn := func(text string) {
		sink.Emit(progress.Event{Time: time.Now(), Kind: progress.Warning, Text: text})
	}
	for _, text := range b.kaniko.warnings() {
		warn(text)
	}
	client, err := b.registry.client(warn)
	if err != nil {
		return err
	}
	defer client.Close()
	// Reads of layers have no context of their own.
	defer context.AfterFunc(ctx, client.Close)()
	o.Registry = client
	if err := b.output.apply(&o); err != nil {
		return err
	}
	closeCaches, err := b.cache.apply(ctx, &o, b.output.destinations, warn)
	defer func() { err = errors.Join(err, closeCaches()) }()
	if err != nil {
		return err
	}
	closeMounts, err := b.mounts.apply(ctx, &o, warn)
	defer func() { err = errors.Join(err, closeMounts()) }()
	if err != nil {
		return err
	}
	result, err := build.Build(ctx, o)
	if err != nil {
		return err
	}
	for _, r := range result.Receipts {
		sink.Emit(progress.Event{Time: time.Now(), Kind: progress.Info, Text: fmt.Sprintf("wrote %s %s", r.Name, r.Digest)})
	}
	return b.output.writeDigests(result)
}

// options are those that need no registry.
func (b *buildFlags) options() (build.Options, error) {
	var o build.Options
	var errs [7]error
	errs[0] = b.source.apply(&o)
	o.BuildArgs, errs[1] = b.source.args()
	o.Labels, errs[2] = pairs("label", b.source.labels)
	o.Annotations, errs[3] = pairs("annotation", b.annotations)
	o.Platform, errs[4] = parsePlatform(b.source.platform)
	o.Compression, o.DockerMediaTypes, errs[5] = b.layer.parse()
	errs[6] = b.given.apply(&o)
	o.CompressionLevel = b.layer.level
	o.Epoch, o.RewriteTimestamps = b.layer.epoch(), b.layer.rewrite || b.layer.reproducible
	o.WorkDir, o.Isolation = b.workDir, b.isolation
	o.DisposableContainer, o.StepProgram = b.disposable, stepProgram()
	o.PrivateFiles = append(o.PrivateFiles, credentialFiles()...)
	return o, errors.Join(errs[:]...)
}

// newPrinter returns the printer that the user asked for.
func newPrinter(kind string) (progress.Printer, error) {
	width, height, isTerminal := terminalSize(os.Stderr)
	switch {
	case kind == "tty" || kind == "auto" && isTerminal && width > 0 && height > 0:
		return progress.NewTerminal(os.Stderr, func() (int, int) {
			w, h, _ := terminalSize(os.Stderr)
			return w, h
		}), nil
	case kind == "plain" || kind == "auto":
		return progress.Plain(os.Stderr), nil
	case kind == "json":
		return progress.JSON(os.Stderr), nil
	case kind == "quiet":
		return progress.Quiet(os.Stderr), nil
	}
	return nil, usagef("--progress %q is none of auto, tty, plain, json, quiet", kind)
}
