package main

import (
	"fmt"
	"runtime/debug"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/gobuild-dev/gobuild/pkg/build"
)

func newPrune() *cobra.Command {
	var o build.PruneOptions
	var size string
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove what earlier builds left in the work directory",
		Long: `Prune removes what earlier builds left in the work directory. It waits for builds that use it.

Without flags everything is removed.`,
		Example: `  # Keep a week's worth, and 10 GB of that at most.
  gobuild prune --keep-for 168h --keep-storage 10GB`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if size != "" {
				n, err := units.FromHumanSize(size)
				if err != nil || n < 0 {
					return usagef("--keep-storage %q is not a size such as 10GB", size)
				}
				o.KeepBytes = n
			}
			p, err := build.Prune(c.Context(), o)
			fmt.Printf("removed %d items, %s; kept %d items, %s\n",
				p.Items, units.HumanSize(float64(p.Bytes)), p.Kept, units.HumanSize(float64(p.BytesKept)))
			return err
		},
	}
	c.Flags().DurationVar(&o.KeepFor, "keep-for", 0, "keep what was used within this time, such as 48h")
	c.Flags().StringVar(&size, "keep-storage", "", "keep the most recently used up to this `size`, such as 10GB")
	registerWorkDir(c.Flags(), &o.WorkDir)
	return c
}

func newDoctor() *cobra.Command {
	var workDir string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Tell how RUN can be isolated here, and why not better",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			checks, err := build.Doctor(c.Context(), workDir)
			if err != nil {
				return err
			}
			chosen := false
			for _, check := range checks {
				switch {
				case check.Err != nil:
					fmt.Printf("%-10s no: %v\n", check.Driver, check.Err)
				case !chosen:
					fmt.Printf("%-10s yes, and used by --isolation=auto\n", check.Driver)
					chosen = true
				default:
					fmt.Printf("%-10s yes\n", check.Driver)
				}
			}
			if !chosen {
				fmt.Println("RUN instructions cannot run here; builds that only copy can.")
			}
			return nil
		},
	}
	registerWorkDir(c.Flags(), &workDir)
	return c
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
