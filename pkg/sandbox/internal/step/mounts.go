package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// Source is a root of which parts can be mounted in other roots.
type Source interface {
	// Tree returns what is to be mounted. A tree that is not writable may be mounted several times at once, and the
	// root need not be kept from other uses of that kind.
	Tree(ctx context.Context, writable bool) (process.Tree, error)
}

// addMounts fills in what is mounted for a process: what every one has, then its files, devices and mounts.
func addMounts(ctx context.Context, w *worker.Worker, spec *process.Spec, p sandbox.Process) error {
	resolvConf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	files := append([]sandbox.File{
		{Path: "/etc/resolv.conf", Mode: 0o644, Data: resolvConf},
		{Path: "/etc/hosts", Mode: 0o644, Data: hosts(spec.Hostname, p.Hosts)},
	}, p.Files...)
	for _, f := range files {
		spec.Mounts = append(spec.Mounts, process.Mount{Target: f.Path, File: &process.File{Data: f.Data, Mode: f.Mode}})
	}
	for _, path := range p.Devices {
		spec.Mounts = append(spec.Mounts, process.Mount{Target: path, Device: &process.Device{Path: path}})
	}
	t, err := treesOf(ctx, p.Mounts)
	if err != nil {
		return err
	}
	spec.Trees = t.list
	for _, m := range p.Mounts {
		if err := check(m); err != nil {
			return fmt.Errorf("mount on %q: %w", m.Target, err)
		}
		spec.Mounts = append(spec.Mounts, mountOf(m, t, w))
	}
	return nil
}

// check refuses what a child, which has another working directory, would take for something else.
func check(m sandbox.Mount) error {
	var path string
	switch s := m.Source.(type) {
	case nil:
		return errors.New("no source")
	case sandbox.HostSource:
		path = s.Path
	case sandbox.CacheSource:
		path = s.Dir
	case sandbox.SocketSource:
		path = s.Path
	default:
		return nil
	}
	if !filepath.IsAbs(path) {
		return fmt.Errorf("path %q is not absolute", path)
	}
	return nil
}

// hosts is the file of that name; extra are lines of it with a blank in the middle.
func hosts(hostname string, extra []string) []byte {
	out := fmt.Appendf(nil, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname)
	for _, line := range extra {
		out = fmt.Appendf(out, "%s\n", strings.Replace(line, " ", "\t", 1))
	}
	return out
}

// mountOf turns one mount into what a child understands.
func mountOf(m sandbox.Mount, t *trees, w *worker.Worker) process.Mount {
	out := process.Mount{Target: m.Target, ReadOnly: m.ReadOnly}
	switch s := m.Source.(type) {
	case sandbox.BindSource:
		out.Bind = t.part(s)
	case sandbox.HostSource:
		out.Host = &process.Host{Path: s.Path}
	case sandbox.CacheSource:
		out.Cache = &process.Cache{Dir: cacheDir(w, s.Dir), Path: s.Path, UID: s.UID, GID: s.GID, Mode: s.Mode}
		if s.Seed.Root != nil {
			out.Cache.Seed = t.part(s.Seed)
		}
	case sandbox.TmpfsSource:
		out.Tmpfs = &process.Tmpfs{Size: s.Size}
	case sandbox.FileSource:
		out.File = &process.File{Data: s.Data, UID: s.UID, GID: s.GID, Mode: s.Mode, Secret: true}
	case sandbox.SocketSource:
		out.Socket = &process.Socket{Path: s.Path, UID: s.UID, GID: s.GID, Mode: s.Mode}
	}
	return out
}

// trees are the roots that a process's mounts are parts of. Each is mounted once, so that what is written by way of one
// mount is seen in the others.
type trees struct {
	list  []process.Tree
	index map[sandbox.Root]int
}

// treesOf finds the roots. One is writable when any of its mounts is.
func treesOf(ctx context.Context, mounts []sandbox.Mount) (*trees, error) {
	var order []sandbox.Root
	writable := make(map[sandbox.Root]bool)
	for _, m := range mounts {
		root, written := rootOf(m)
		if root == nil {
			continue
		}
		if _, ok := writable[root]; !ok {
			order = append(order, root)
		}
		writable[root] = writable[root] || written
	}
	t := &trees{index: make(map[sandbox.Root]int)}
	for _, root := range order {
		source, ok := root.(Source)
		if !ok {
			return nil, errors.New("mount root: it belongs to another driver")
		}
		tree, err := source.Tree(ctx, writable[root])
		if err != nil {
			return nil, fmt.Errorf("mount root: %w", err)
		}
		t.index[root] = len(t.list)
		t.list = append(t.list, tree)
	}
	return t, nil
}

// rootOf returns the root that a mount needs, or nil, and whether it is written to.
func rootOf(m sandbox.Mount) (root sandbox.Root, written bool) {
	switch s := m.Source.(type) {
	case sandbox.BindSource:
		return s.Root, !m.ReadOnly
	case sandbox.CacheSource:
		return s.Seed.Root, false
	}
	return nil, false
}

func (t *trees) part(s sandbox.BindSource) *process.Part {
	return &process.Part{Tree: t.index[s.Root], Path: s.Path}
}

// cacheDir is the directory of a cache for processes that leave files in the same form.
func cacheDir(w *worker.Worker, dir string) string { return filepath.Join(dir, w.Variant()) }
