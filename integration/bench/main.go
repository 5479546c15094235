// Bench builds the same workloads with gobuild and with BuildKit, in turns, and prints how they compare. It is run by
// 'make bench'.
//
// Both begin with nothing: gobuild with an empty work directory, BuildKit with a daemon that is running and a cache that was
// just pruned. Both pull the base from, and push the image to, one registry on this machine. Machines are noisy, so only
// ratios of one run mean something.
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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

func main() {
	rounds := flag.Int("rounds", 3, "how often each builds each workload")
	only := flag.String("only", "", "the one workload to build")
	program := flag.String("gobuild", "bin/gobuild", "the program to measure")
	tools := flag.String("tools", ".tools/bin", "folder of buildkitd and buildctl")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *program, *tools, *only, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program, tools, only string, rounds int) (err error) {
	unix.Umask(0o022)
	dir, err := os.MkdirTemp("", "gobuild-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.RemoveAll(dir)) }()
	b := &bench{dir: dir}
	if b.gobuild, err = filepath.Abs(program); err != nil {
		return err
	}
	if tools, err = filepath.Abs(tools); err != nil {
		return err
	}
	b.registry, err = parts.StartRegistry(ctx, filepath.Join(dir, "registry"), parts.RegistryOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.registry.Stop()) }()
	b.buildkit, err = parts.StartBuildKit(ctx, tools, filepath.Join(dir, "buildkit"), b.registry.Addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.buildkit.Stop()) }()
	fmt.Printf("%-10s %10s %10s %8s %10s  %s\n", "workload", "gobuild", "BuildKit", "ratio", "peak RSS", "")
	for _, w := range workloads() {
		if only != "" && only != w.name {
			continue
		}
		if err := b.compare(ctx, w, rounds); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// bench holds what all workloads share.
type bench struct {
	dir      string
	gobuild  string
	registry *parts.Registry
	buildkit *parts.BuildKit
	builds   int
}

// compare prints a line of medians.
func (b *bench) compare(ctx context.Context, w workload, rounds int) error {
	src := filepath.Join(b.dir, w.name)
	if err := os.Mkdir(src, 0o755); err != nil {
		return err
	}
	if err := w.prepare(ctx, b, src); err != nil {
		return err
	}
	var ours, theirs []time.Duration
	var peak int64
	for range rounds {
		took, rss, err := b.withGobuild(ctx, src)
		if err != nil {
			return err
		}
		ours, peak = append(ours, took), max(peak, rss)
		if took, err = b.withBuildKit(ctx, src); err != nil {
			return err
		}
		theirs = append(theirs, took)
	}
	mine, other := median(ours), median(theirs)
	fmt.Printf("%-10s %9.2fs %9.2fs %7.2fx %6d MiB  %s\n", w.name, mine.Seconds(), other.Seconds(),
		other.Seconds()/mine.Seconds(), peak>>20, w.about)
	return nil
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// destination is a repository that has nothing yet, so that everything has to be pushed.
func (b *bench) destination() string {
	b.builds++
	return fmt.Sprintf("%s/bench/%d:1", b.registry.Addr, b.builds)
}

// withGobuild returns the time that a build takes, and the largest resident size in bytes of any of its processes.
func (b *bench) withGobuild(ctx context.Context, src string) (time.Duration, int64, error) {
	work, err := os.MkdirTemp(b.dir, "work-")
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, b.gobuild,
		"--context", src, "--destination", b.destination(), "--work-dir", work, "--progress", "quiet")
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		return 0, 0, fmt.Errorf("gobuild: %w\n%s", err, out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, errors.New("no resource usage of the process")
	}
	return took, usage.Maxrss << 10, parts.RemoveAll(work)
}

func (b *bench) withBuildKit(ctx context.Context, src string) (time.Duration, error) {
	if err := b.buildkit.Prune(ctx); err != nil {
		return 0, err
	}
	begin := time.Now()
	err := b.buildkit.Build(ctx, parts.Job{Context: src, Dockerfile: "Dockerfile", Destination: b.destination()})
	return time.Since(begin), err
}
