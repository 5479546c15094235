// Command bench builds a few workloads with gobuild and with BuildKit in turn, from nothing, and prints how their times
// compare. BuildKit's daemon is running before its clock starts, and its cache is pruned before each build; gobuild begins
// each build with an empty work directory. Both pull from and push to one registry on the loopback interface.
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
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

func main() {
	var b bench
	flag.StringVar(&b.gobuild, "gobuild", "bin/gobuild", "the program to measure")
	flag.StringVar(&b.tools, "tools", ".tools/bin", "folder of buildkitd and buildctl")
	flag.StringVar(&b.only, "only", "", "measure workloads with this in their name alone")
	flag.IntVar(&b.rounds, "rounds", 3, "builds of each workload by each program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	gobuild, tools, only string
	rounds               int

	dir      string
	registry *parts.Registry
	buildkit *parts.BuildKit
}

func (b *bench) run(ctx context.Context) (err error) {
	for _, p := range []*string{&b.gobuild, &b.tools} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp("", "gobuild-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.RemoveAll(b.dir)) }()
	if b.registry, err = parts.StartRegistry(ctx, filepath.Join(b.dir, "registry"), parts.RegistryOptions{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.registry.Stop()) }()
	if b.buildkit, err = parts.StartBuildKit(ctx, b.tools, filepath.Join(b.dir, "buildkit"), b.registry.Addr); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.buildkit.Stop()) }()

	fmt.Println("preparing bases and contexts ...")
	if err := b.bases(ctx); err != nil {
		return err
	}
	fmt.Printf("%-22s %12s %12s %8s %14s %11s\n", "workload", "gobuild", "BuildKit", "ratio", "gobuild's peak", "its CPU")
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

// bases pushes a small Debian, and one of 240 MB.
func (b *bench) bases(ctx context.Context) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	debian, err := parts.Debian(ctx, filepath.Join(cache, "gobuild-tests"))
	if err != nil {
		return err
	}
	if err := parts.Push(ctx, b.registry.Addr+"/base/debian:1", debian); err != nil {
		return err
	}
	// Some libraries, several times: they compress like programs do.
	big := "FROM " + b.registry.Addr + "/base/debian:1\nRUN for i in 1 2 3 4 5; do mkdir -p /opt/$i && cp -a /usr/lib/x86_64-linux-gnu/lib[a-m]* /opt/$i; done\n"
	dir := filepath.Join(b.dir, "big")
	if err := write(filepath.Join(dir, "Dockerfile"), big); err != nil {
		return err
	}
	ref := b.registry.Addr + "/base/big:1"
	if err := b.buildkit.Build(ctx, parts.Job{Context: dir, Dockerfile: "Dockerfile", Destination: ref}); err != nil {
		return err
	}
	size, err := uncompressed(ctx, ref)
	if err != nil {
		return err
	}
	fmt.Printf("the large base has %d MB of files\n", size/1e6)
	return nil
}

// uncompressed is how many bytes the files of an image have.
func uncompressed(ctx context.Context, ref string) (int64, error) {
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return 0, err
	}
	img, err := remote.Image(r, remote.WithContext(ctx))
	if err != nil {
		return 0, err
	}
	return count(img)
}

func count(img v1.Image) (n int64, err error) {
	rc := mutate.Extract(img)
	defer rc.Close()
	buf := make([]byte, 1<<20)
	for {
		k, err := rc.Read(buf)
		n += int64(k)
		if err != nil {
			return n, nil //nolint:nilerr // the end of the archive
		}
	}
}

// measure builds a workload with both programs in turn and prints a line.
func (b *bench) measure(ctx context.Context, w workload) error {
	dir := filepath.Join(b.dir, "context")
	defer os.RemoveAll(dir)
	var mine, theirs, busy []time.Duration
	var peak int64
	for round := range b.rounds {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := w.lay(dir, b.registry.Addr, fmt.Sprint(round)); err != nil {
			return err
		}
		ref := fmt.Sprintf("%s/bench/%s-%d", b.registry.Addr, w.name, round)
		u, err := b.buildWithGobuild(ctx, dir, ref+":gobuild")
		if err != nil {
			return err
		}
		mine, busy, peak = append(mine, u.wall), append(busy, u.cpu), max(peak, u.peak)
		d, err := b.buildWithBuildKit(ctx, dir, ref+"-buildkit:1")
		if err != nil {
			return err
		}
		theirs = append(theirs, d)
	}
	m, t := median(mine), median(theirs)
	fmt.Printf("%-22s %11.2fs %11.2fs %7.2fx %10.0f MiB %10.2fs   rounds: %v against %v\n", w.name, m.Seconds(), t.Seconds(),
		t.Seconds()/m.Seconds(), float64(peak)/1024, median(busy).Seconds(), rounded(mine), rounded(theirs))
	return nil
}

// usage is what a build has taken.
type usage struct {
	wall, cpu time.Duration
	peak      int64 // largest resident set of the program and of each process that it waited for, in KiB
}

func (b *bench) buildWithGobuild(ctx context.Context, dir, ref string) (usage, error) {
	work := filepath.Join(b.dir, "work")
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, b.gobuild, "--context", dir, "--destination", ref, "--insecure-registry", b.registry.Addr,
		"--work-dir", work, "--progress", "plain")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	u := usage{wall: time.Since(start)}
	if err != nil {
		return usage{}, fmt.Errorf("gobuild: %w\n%s", err, out)
	}
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	u.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	return u, nil
}

func (b *bench) buildWithBuildKit(ctx context.Context, dir, ref string) (time.Duration, error) {
	if err := b.buildkit.Prune(ctx); err != nil {
		return 0, err
	}
	start := time.Now()
	err := b.buildkit.Build(ctx, parts.Job{Context: dir, Dockerfile: "Dockerfile", Destination: ref})
	return time.Since(start), err
}

func median(ds []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(ds))
	return s[len(s)/2]
}

func rounded(ds []time.Duration) []time.Duration {
	out := make([]time.Duration, len(ds))
	for i, d := range ds {
		out[i] = d.Round(10 * time.Millisecond)
	}
	return out
}
