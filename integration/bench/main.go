// Command bench builds workloads with gobuild and with its peers in turn, and prints how their times, their processor
// time and their memory compare. All of them pull from and push to one registry on the loopback interface, and each
// build begins with nothing that an earlier one has left: gobuild and Buildah in a new folder, BuildKit with a new
// daemon, which is running before its clock starts. Some find what the program has put into a cache in the registry before.
//
// In the mode growth it builds with gobuild alone, in several sizes, and says where time, processor time or memory grow by more
// than the work; in the mode floors it measures what the machine can do at best.
//
// Nothing is deleted until all is measured: for minutes ext4 does not give out the inodes of deleted files, and a
// directory with many of them makes new files ten times as dear (recently_deleted in fs/ext4/ialloc.c).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

func main() {
	var b bench
	flag.StringVar(&b.gobuild, "gobuild", "bin/gobuild", "the program to measure")
	flag.StringVar(&b.tools, "tools", ".tools/bin", "folder of buildkitd and buildctl")
	flag.StringVar(&b.only, "only", "", "measure workloads with this in their name alone")
	flag.StringVar(&b.peers, "peers", "buildkit,buildah,inplace", "what to compare with, of buildkit, buildah and inplace, which is gobuild in a container without privileges; may be empty")
	flag.IntVar(&b.rounds, "rounds", 3, "builds of each workload by each program")
	flag.BoolVar(&b.large, "large", false, "growth: measure the largest sizes, too, which take tens of GB and of minutes")
	flag.StringVar(&b.dir, "dir", "", "where to keep everything meanwhile; a temporary folder if empty")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [flags] [peers | growth | floors]")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	gobuild, tools, only, peers, dir string
	rounds                           int
	large                            bool

	registry *parts.Registry
	docker   *parts.Docker // nil until it is needed
	image    string        // archive of gobuild's own image
}

// run measures what mode names, peers if it is empty.
func (b *bench) run(ctx context.Context, mode string) (err error) {
	measure, ok := map[string]func(context.Context) error{
		"": b.comparePeers, "peers": b.comparePeers, "growth": b.growth, "floors": b.floors,
	}[mode]
	if !ok {
		return fmt.Errorf("unknown mode %q: give peers, growth or floors", mode)
	}
	for _, p := range []*string{&b.gobuild, &b.tools} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp(b.dir, "gobuild-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.RemoveAll(b.dir)) }()
	if b.registry, err = parts.StartRegistry(ctx, filepath.Join(b.dir, "registry"), parts.RegistryOptions{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.registry.Stop()) }()
	defer func() {
		if b.docker != nil {
			err = errors.Join(err, b.docker.Stop())
		}
	}()
	return measure(ctx)
}

// comparePeers builds all workloads with all programs.
func (b *bench) comparePeers(ctx context.Context) error {
	if _, err := b.builders(workload{}, b.registry.Addr); err != nil {
		return err
	}
	fmt.Println("preparing bases ...")
	if strings.Contains(b.peers, "inplace") {
		var err error
		if b.image, err = b.imageArchive(ctx); err != nil {
			return fmt.Errorf("make gobuild's image: %w", err)
		}
	}
	if err := b.bases(ctx); err != nil {
		return err
	}
	printHead()
	for _, w := range workloads() {
		if !strings.Contains(w.name, b.only) {
			continue
		}
		if err := b.measure(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// builders are the programs that are compared in a workload, gobuild first. They are to reach the registry at addr.
func (b *bench) builders(w workload, addr string) ([]builder, error) {
	list := []builder{&gobuild{program: b.gobuild, registry: addr}}
	for _, p := range strings.FieldsFunc(b.peers, func(r rune) bool { return r == ',' }) {
		switch p {
		case "buildkit":
			list = append(list, &buildKit{tools: b.tools, registry: addr})
		case "buildah":
			program, err := exec.LookPath("buildah")
			if err != nil {
				return nil, err
			}
			list = append(list, &buildah{program: program})
		case "inplace":
			if w.inPlace {
				list = append(list, &inPlace{archive: b.image, dir: filepath.Join(b.dir, "docker"), registry: addr, docker: &b.docker})
			}
		default:
			return nil, fmt.Errorf("unknown peer %q: give buildkit, buildah or inplace", p)
		}
	}
	return list, nil
}

// measure builds a workload with all programs in turn and prints their lines.
func (b *bench) measure(ctx context.Context, w workload) (err error) {
	m := &measurement{workload: w, dir: filepath.Join(b.dir, w.name), registry: b.registry.Addr}
	if w.latency > 0 {
		proxy, err := delayed(b.registry.Addr, w.latency)
		if err != nil {
			return err
		}
		defer proxy.Close()
		m.registry = proxy.Addr
	}
	if m.builders, err = b.builders(w, m.registry); err != nil {
		return err
	}
	if w.cached {
		if err := m.fill(ctx); err != nil {
			return fmt.Errorf("fill caches: %w", err)
		}
	}
	results := make([]result, len(m.builders))
	for i, p := range m.builders {
		results[i].builder = p.name()
	}
	for round := range b.rounds {
		if err := m.round(ctx, round, results); err != nil {
			return err
		}
	}
	printResults(w, results)
	return nil
}

// order lets every builder begin a round in its turn, so that none profits from what an earlier one has left in the
// page cache.
func order(n, round int) []int {
	var list []int
	for i := range n {
		list = append(list, (i+round)%n)
	}
	return list
}

func median[T interface{ ~int64 | ~float64 }](values []T) T {
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
