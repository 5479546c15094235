package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// Check is what one sandbox driver says of the place that it is in.
type Check struct {
	Driver string
	// Err is nil if the driver works here, and otherwise says why not and what would help.
	Err error
	// Limits says what steps lack in it here, and what would help, or is "".
	Limits string
}

// Place is what a process is allowed where it is, as far as it matters for running steps.
type Place struct {
	UID int
	// Capabilities are the effective ones, as a mask in hexadecimal.
	Capabilities string
	// NoNewPrivileges says that programs with setuid bits give nothing.
	NoNewPrivileges bool
	// Seccomp says that a filter of system calls is in force.
	Seccomp bool
	// WorkDir is where layers and roots are kept.
	WorkDir string
	// WorkDirOnOverlay says that it is on overlayfs, where the overlay driver cannot have its files.
	WorkDirOnOverlay bool
}

// Diagnosis is what Doctor finds.
type Diagnosis struct {
	Place Place
	// Checks has all drivers, best first.
	Checks []Check
}

// Chosen is the driver that --isolation=auto takes, or "".
func (d *Diagnosis) Chosen() string {
	for _, c := range d.Checks {
		if c.Err == nil {
			return c.Driver
		}
	}
	return ""
}

// Doctor asks all drivers whether they work here. Of the options, only those are looked at that drivers need.
func Doctor(ctx context.Context, o Options) (*Diagnosis, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	store, err := local.Open(ctx, o.WorkDir)
	if err != nil {
		return nil, err
	}
	d := &Diagnosis{}
	if d.Place, err = placeOf(o.WorkDir); err != nil {
		store.Close()
		return nil, fmt.Errorf("look around: %w", err)
	}
	for _, driver := range o.drivers(store.LayersDir, store) {
		c := Check{Driver: driver.Name(), Err: driver.Probe(ctx)}
		if l, ok := driver.(sandbox.Limited); ok && c.Err == nil {
			c.Limits = l.Limits()
		}
		d.Checks = append(d.Checks, c)
	}
	return d, store.Close()
}

func placeOf(workDir string) (Place, error) {
	p := Place{UID: os.Geteuid(), WorkDir: workDir}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return p, err
	}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		v := string(bytes.TrimSpace(value))
		switch string(name) {
		case "CapEff":
			p.Capabilities = v
		case "NoNewPrivs":
			p.NoNewPrivileges, err = strconv.ParseBool(v)
		case "Seccomp":
			p.Seccomp = v != "0"
		}
		if err != nil {
			return p, err
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(workDir, &fs); err != nil {
		return p, &os.PathError{Op: "statfs", Path: workDir, Err: err}
	}
	p.WorkDirOnOverlay = fs.Type == unix.OVERLAYFS_SUPER_MAGIC
	return p, nil
}
