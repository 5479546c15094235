package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// inPlace is gobuild's own image in a container with the default settings of Docker, where RUN works in the container's own
// file system. The container is there before the clock starts, as that of a job is.
type inPlace struct {
	archive  string // of the image, in the variant with a shell
	dir      string // for the daemon, which is started when it is first needed
	registry string
	docker   **parts.Docker // shared by all measurements
}

func (*inPlace) name() string { return "inplace" }

func (p *inPlace) build(ctx context.Context, j job) (u usage, err error) {
	image, err := p.load(ctx)
	if err != nil {
		return usage{}, err
	}
	d := *p.docker
	id, err := d.Output(ctx, "run", "--detach", "--network", "host", "--volume", j.context+":/context:ro", "--entrypoint", "tail", image, "-f", "/dev/null")
	if err != nil {
		return usage{}, err
	}
	id = strings.TrimSpace(id)
	defer func() {
		if _, e := d.Output(context.WithoutCancel(ctx), "stop", "--time", "0", id); err == nil {
			err = e
		}
	}()
	parent, err := p.parent(ctx, id)
	if err != nil {
		return usage{}, err
	}
	words := d.Command(ctx, "exec", id, "/gobuild/gobuild", "--context", "/context", "--destination", j.destination,
		"--insecure-registry", p.registry, "--isolation", "inplace", "--progress", "plain").Args
	return measure(ctx, []string{"gobuild"}, parent, append(words, j.cacheFlags()...))
}

// load starts the daemon and gives it the image, which it returns the name of.
func (p *inPlace) load(ctx context.Context) (string, error) {
	if *p.docker == nil {
		d, err := parts.StartDocker(ctx, p.dir)
		if err != nil {
			return "", err
		}
		*p.docker = d
	}
	cmd := (*p.docker).Command(ctx, "load", "--input", p.archive)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker load: %w\n%s", err, out)
	}
	_, image, ok := strings.Cut(strings.TrimSpace(string(out)), "Loaded image: ")
	if !ok {
		return "", fmt.Errorf("docker load: %s", out)
	}
	return image, nil
}

// parent is the process that starts, and waits for, what is run in a container.
func (p *inPlace) parent(ctx context.Context, id string) (int, error) {
	out, err := (*p.docker).Output(ctx, "inspect", "--format", "{{.State.Pid}}", id)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return 0, err
	}
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(fields[1])
}

// imageArchive builds gobuild's own image.
func (b *bench) imageArchive(ctx context.Context) (string, error) {
	out := filepath.Join(b.dir, "image")
	cmd := exec.CommandContext(ctx, "scripts/image", "--work-dir", filepath.Join(out, "work"))
	cmd.Env = append(os.Environ(), "OUT="+out)
	cmd.Stderr = os.Stderr
	return filepath.Join(out, "gobuild-image-debug.tar"), cmd.Run()
}
