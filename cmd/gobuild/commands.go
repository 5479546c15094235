package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gobuild-dev/gobuild/pkg/build"
)

// keepFlags say what pruning keeps.
type keepFlags struct {
	duration time.Duration
	size     string
}

func (k *keepFlags) register(f *pflag.FlagSet) {
	f.DurationVar(&k.duration, "keep-for", 0, "keep what was used within this time, such as 48h; of results elsewhere, what was made")
	f.StringVar(&k.size, "keep-storage", "", "keep the most recent up to this `size`, such as 10GB")
}

// bytes is the size in bytes; 0 when there is none.
func (k *keepFlags) bytes() (int64, error) {
	if k.size == "" {
		return 0, nil
	}
	n, err := units.FromHumanSize(k.size)
	if err != nil || n < 0 {
		return 0, usagef("--keep-storage %q is not a size such as 10GB", k.size)
	}
	return n, nil
}

func newPrune() *cobra.Command {
	var workDir string
	var keep keepFlags
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove what earlier builds left in the work directory",
		Long: `Prune removes what earlier builds left in the work directory. It waits for builds that use it.

Without flags everything is removed.`,
		Example: `  # Keep a week's worth, and 10 GB of that at most.
  gobuild prune --keep-for 168h --keep-storage 10GB`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			bytes, err := keep.bytes()
			if err != nil {
				return err
			}
			return pruneWorkDir(c.Context(), build.PruneOptions{WorkDir: workDir, KeepFor: keep.duration, KeepBytes: bytes})
		},
	}
	keep.register(c.Flags())
	registerWorkDir(c.Flags(), &workDir)
	return c
}

func pruneWorkDir(ctx context.Context, o build.PruneOptions) error {
	p, err := build.Prune(ctx, o)
	printPruned(p.Items, p.Bytes, p.Kept, p.BytesKept)
	return err
}

func printPruned(items int, bytes int64, kept int, bytesKept int64) {
	fmt.Printf("removed %d items, %s; kept %d items, %s\n", items, units.HumanSize(float64(bytes)), kept, units.HumanSize(float64(bytesKept)))
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run:   func(*cobra.Command, []string) { fmt.Println("gobuild", version()) },
	}
}

// version is that of the module, as the Go tool recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
