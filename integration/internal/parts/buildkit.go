package parts

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// BuildKit is a buildkitd with runc and overlayfs, under a root folder of its own.
type BuildKit struct {
	addr string
	ctl  string
	p    *process
}

// StartBuildKit starts the daemon. bin is the folder of buildkitd and buildctl; registry is the address of a registry
// that speaks plain HTTP.
func StartBuildKit(ctx context.Context, bin, dir, registry string) (*BuildKit, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "buildkitd.toml")
	toml := fmt.Sprintf("[worker.oci]\n  gc = false\n[registry.%q]\n  http = true\n", registry)
	if err := os.WriteFile(conf, []byte(toml), 0o600); err != nil {
		return nil, err
	}
	b := &BuildKit{addr: "unix://" + filepath.Join(dir, "sock"), ctl: filepath.Join(bin, "buildctl")}
	cmd := exec.Command(filepath.Join(bin, "buildkitd"),
		"--config", conf, "--root", filepath.Join(dir, "root"), "--addr", b.addr,
		"--allow-insecure-entitlement=security.insecure", "--allow-insecure-entitlement=network.host",
		"--containerd-worker=false", "--oci-worker-snapshotter=overlayfs")
	cmd.Dir = dir
	var err error
	b.p, err = start(ctx, cmd, func(line string) bool { return strings.Contains(line, "running server on") })
	return b, err
}

// Build builds and pushes. The error holds the end of what buildctl printed.
func (b *BuildKit) Build(ctx context.Context, j Job) error {
	args, err := j.buildArgs()
	if err != nil {
		return err
	}
	_, err = b.control(ctx, j.Environ(), args...)
	return err
}

// Command is what Build runs, for whoever measures it.
func (b *BuildKit) Command(j Job) ([]string, error) {
	args, err := j.buildArgs()
	return append([]string{b.ctl, "--addr", b.addr}, args...), err
}

// Pid is the daemon's process.
func (b *BuildKit) Pid() int { return b.p.cmd.Process.Pid }

// buildArgs are buildctl's arguments for a build with all its outputs.
func (j Job) buildArgs() ([]string, error) {
	args, err := j.args()
	if err != nil {
		return nil, err
	}
	if j.Output != "" {
		args = append(args, "--output="+j.Output)
	}
	if j.Destination != "" {
		output := "--output=type=image,push=true,registry.insecure=true,name=" + j.Destination
		if j.RewriteTimestamp {
			output += ",rewrite-timestamp=true"
		}
		args = append(args, output)
	}
	return args, nil
}

// Ask sends a subrequest of the frontend, such as "frontend.lint", and returns the text of the answer.
func (b *BuildKit) Ask(ctx context.Context, request string, j Job) (string, error) {
	args, err := j.args()
	if err != nil {
		return "", err
	}
	return b.control(ctx, j.Environ(), append(args, "--opt=requestid="+request)...)
}

// args are buildctl's arguments for all but the output.
func (j Job) args() ([]string, error) {
	args := []string{
		"build", "--progress=plain", "--frontend=dockerfile.v0",
		"--local=context=" + j.Context, "--local=dockerfile=" + j.Context, "--opt=filename=" + j.Dockerfile,
	}
	if j.Target != "" {
		args = append(args, "--opt=target="+j.Target)
	}
	if j.Platform != "" {
		args = append(args, "--opt=platform="+j.Platform)
	}
	for _, a := range j.BuildArgs {
		args = append(args, "--opt=build-arg:"+a)
	}
	for _, l := range j.Labels {
		args = append(args, "--opt=label:"+l)
	}
	if j.NoCache {
		args = append(args, "--no-cache")
	}
	more, err := j.buildctl()
	return append(args, more...), err
}

// Prune empties the cache.
func (b *BuildKit) Prune(ctx context.Context) error {
	_, err := b.control(ctx, os.Environ(), "prune", "--all")
	return err
}

// control runs buildctl and returns its standard output.
func (b *BuildKit) control(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.ctl, append([]string{"--addr", b.addr}, args...)...)
	cmd.Env = env
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("buildctl %s: %w\n%s", args[0], err, lastLines(log.String(), 30))
	}
	return out.String(), nil
}

// Stop ends the daemon. Its data stays.
func (b *BuildKit) Stop() error { return b.p.stop() }

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
