// Package cdi finds the devices of this machine that RUN --device names. They are described by files of the Container
// Device Interface (https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md).
package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// classAnnotation lets several devices be asked for by one word that is no name of a device.
const classAnnotation = "org.mobyproject.buildkit.device.class"

// Device is what a process gets that may use a device.
type Device struct {
	// Nodes are paths of device nodes.
	Nodes []string
	// Env holds KEY=value pairs.
	Env []string
	// Mounts are files and directories of this machine.
	Mounts []Mount
}

// Mount is a file or directory of this machine that is shown to the process at Target.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// DefaultDirs are where descriptions of devices are, the most important last. BuildKit looks there too.
func DefaultDirs() []string { return []string{"/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"} }

// Find returns what the files in dirs say of the device name: "vendor/class=device", "vendor/class" for the first of
// its class, "vendor/class=*" for all, or the word of a class annotation. The error wraps fs.ErrNotExist when there is
// no such device. Hooks of a description are not run.
func Find(dirs []string, name string) (Device, error) {
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return Device{}, fmt.Errorf("read device descriptions: %w", err)
	}
	names := matching(cache, name)
	if len(names) == 0 {
		return Device{}, fmt.Errorf("no device %q is described in %s: %w", name, strings.Join(dirs, ", "), errors.Join(append(broken(cache), fs.ErrNotExist)...))
	}
	spec := &specs.Spec{}
	if _, err := cache.InjectDevices(spec, names...); err != nil {
		return Device{}, fmt.Errorf("read description of device %q: %w", name, err)
	}
	return fromSpec(spec), nil
}

// matching are the full names of the devices that name stands for.
func matching(cache *cdi.Cache, name string) []string {
	all := cache.ListDevices()
	kind, device, _ := strings.Cut(name, "=")
	var found []string
	for _, full := range all {
		switch {
		case full == name, device == "*" && strings.HasPrefix(full, kind+"="):
			found = append(found, full)
		case device == "" && strings.HasPrefix(full, kind+"=") && len(found) == 0:
			found = append(found, full)
		}
	}
	if len(found) > 0 {
		return found
	}
	for _, full := range all {
		d := cache.GetDevice(full)
		if d.Annotations[classAnnotation] == name || d.GetSpec().Annotations[classAnnotation] == name {
			found = append(found, full)
		}
	}
	return found
}

// broken are the files that cannot be read, one of which may have the device.
func broken(cache *cdi.Cache) (errs []error) {
	all := cache.GetErrors()
	for _, file := range slices.Sorted(maps.Keys(all)) {
		errs = append(errs, all[file]...)
	}
	return errs
}

func fromSpec(spec *specs.Spec) Device {
	var d Device
	if spec.Process != nil {
		d.Env = spec.Process.Env
	}
	if spec.Linux != nil {
		for _, n := range spec.Linux.Devices {
			d.Nodes = append(d.Nodes, n.Path)
		}
	}
	for _, m := range spec.Mounts {
		d.Mounts = append(d.Mounts, Mount{Source: m.Source, Target: m.Destination, ReadOnly: slices.Contains(m.Options, "ro")})
	}
	return d
}
