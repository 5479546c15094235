package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// job is one build on a machine that has nothing.
type job struct {
	context, destination string
	// cacheFrom and cacheTo are the repository that results are looked for in, and kept in; empty is none.
	cacheFrom, cacheTo string
	// state is a folder that does not exist, for what the builder keeps.
	state string
}

// builder is a program that makes images.
type builder interface {
	// name is what the table calls it.
	name() string
	// build builds and pushes. What it has to start before is not measured.
	build(ctx context.Context, j job) (usage, error)
}

type gobuild struct{ program, registry string }

// stepProgram is what /proc calls the program, in memory alone, by which gobuild starts steps.
const stepProgram = "memfd:gobuild-step"

func (*gobuild) name() string { return "gobuild" }

func (g *gobuild) build(ctx context.Context, j job) (usage, error) {
	return measure(ctx, []string{filepath.Base(g.program), stepProgram}, 0, append([]string{
		g.program, "--context", j.context, "--destination", j.destination, "--insecure-registry", g.registry,
		"--work-dir", j.state, "--progress", "plain",
	}, j.cacheFlags()...))
}

// cacheFlags are what gobuild and Buildah have in common.
func (j job) cacheFlags() (flags []string) {
	if j.cacheFrom != "" {
		flags = append(flags, "--cache-from="+j.cacheFrom)
	}
	if j.cacheTo != "" {
		flags = append(flags, "--cache-to="+j.cacheTo)
	}
	return flags
}

type buildKit struct{ tools, registry string }

func (*buildKit) name() string { return "BuildKit" }

func (b *buildKit) build(ctx context.Context, j job) (u usage, err error) {
	daemon, err := parts.StartBuildKit(ctx, b.tools, j.state, b.registry)
	if err != nil {
		return usage{}, err
	}
	defer func() {
		if e := daemon.Stop(); err == nil {
			err = e
		}
	}()
	args, err := daemon.Command(parts.Job{
		Context: j.context, Dockerfile: "Dockerfile", Destination: j.destination, ImportCache: j.cacheFrom, ExportCache: j.cacheTo,
	})
	if err != nil {
		return usage{}, err
	}
	return measure(ctx, []string{"buildkitd", "buildctl"}, daemon.Pid(), args)
}

type buildah struct{ program string }

func (*buildah) name() string { return "Buildah" }

// build runs two commands as one: the clock runs for both.
func (b *buildah) build(ctx context.Context, j job) (usage, error) {
	if err := os.MkdirAll(j.state, 0o700); err != nil {
		return usage{}, err
	}
	policy := filepath.Join(j.state, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`), 0o600); err != nil {
		return usage{}, err
	}
	script := `set -e
B="$0 --root $1/root --runroot $1/run --storage-driver overlay"
$B build --signature-policy "$4" --isolation chroot --tls-verify=false --layers $5 -t "$3" "$2"
$B push --signature-policy "$4" --tls-verify=false "$3"`
	return measure(ctx, []string{"buildah"}, 0, []string{
		"sh", "-c", script, b.program, j.state, j.context, j.destination, policy, strings.Join(j.cacheFlags(), " "),
	})
}

// measure runs a command. programs are the names of those whose memory counts; daemon is a process that works for it, and
// 0 if there is none.
func measure(ctx context.Context, programs []string, daemon int, args []string) (usage, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	before, err := processorTime(daemon)
	if err != nil {
		return usage{}, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	memory := watchMemory(programs, cmd.Process.Pid, daemon)
	err = cmd.Wait()
	u := usage{wall: time.Since(start), peak: memory.stop()}
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", filepath.Base(args[0]), err, out.Bytes())
	}
	after, err := processorTime(daemon)
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + after - before
	return u, err
}
