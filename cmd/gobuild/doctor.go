package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobuild-dev/gobuild/pkg/build"
)

func newDoctor() *cobra.Command {
	o := build.Options{StepProgram: stepProgram()}
	var format string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Tell how RUN can be isolated here, and why not better",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return usagef("--format %q is none of text, json", format)
			}
			d, err := build.Doctor(c.Context(), o)
			if err != nil {
				return err
			}
			if format == "json" {
				return diagnosisJSON(d)
			}
			printDiagnosis(d)
			return nil
		},
	}
	registerWorkDir(c.Flags(), &o.WorkDir)
	registerDisposable(c.Flags(), &o.DisposableContainer)
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

func printDiagnosis(d *build.Diagnosis) {
	chosen := d.Chosen()
	for _, check := range d.Checks {
		switch {
		case check.Err != nil:
			fmt.Printf("%-10s no: %v\n", check.Driver, check.Err)
		case check.Driver == chosen:
			fmt.Printf("%-10s yes, and used by --isolation=auto%s\n", check.Driver, shortcoming(check))
		default:
			fmt.Printf("%-10s yes%s\n", check.Driver, shortcoming(check))
		}
	}
	if chosen == "" {
		fmt.Println("RUN instructions cannot run here; builds that only copy can.")
	}
	p := d.Place
	fmt.Printf("\nuid %d, capabilities %s, seccomp filter: %s, no new privileges: %s\n",
		p.UID, p.Capabilities, yesNo(p.Seccomp), yesNo(p.NoNewPrivileges))
	fmt.Printf("work directory %s, on overlayfs: %s\n", p.WorkDir, yesNo(p.WorkDirOnOverlay))
}

// shortcoming says what users of a driver should know before anything else.
func shortcoming(c build.Check) string {
	switch c.Driver {
	case "inplace":
		return "; a step can reach the work directory and the context"
	case "chroot":
		return "; a step has no /proc"
	}
	if c.Limits != "" {
		return "; " + c.Limits
	}
	return ""
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// diagnosisJSON prints the diagnosis as a JSON object.
func diagnosisJSON(d *build.Diagnosis) error {
	type driver struct {
		Name   string `json:"name"`
		Works  bool   `json:"works"`
		Chosen bool   `json:"chosen"`
		Reason string `json:"reason,omitempty"`
		Note   string `json:"note,omitempty"`
	}
	out := struct {
		Drivers          []driver `json:"drivers"`
		UID              int      `json:"uid"`
		Capabilities     string   `json:"capabilities"`
		Seccomp          bool     `json:"seccomp"`
		NoNewPrivileges  bool     `json:"noNewPrivileges"`
		WorkDir          string   `json:"workDir"`
		WorkDirOnOverlay bool     `json:"workDirOnOverlay"`
	}{
		UID: d.Place.UID, Capabilities: d.Place.Capabilities, Seccomp: d.Place.Seccomp, NoNewPrivileges: d.Place.NoNewPrivileges,
		WorkDir: d.Place.WorkDir, WorkDirOnOverlay: d.Place.WorkDirOnOverlay,
	}
	for _, c := range d.Checks {
		o := driver{Name: c.Driver, Works: c.Err == nil, Chosen: c.Driver == d.Chosen()}
		if c.Err != nil {
			o.Reason = c.Err.Error()
		} else {
			o.Note = strings.TrimPrefix(shortcoming(c), "; ")
		}
		out.Drivers = append(out.Drivers, o)
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
