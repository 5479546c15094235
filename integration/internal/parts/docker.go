package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Docker is a dockerd with its own data, and without networks of its own.
type Docker struct {
	socket string
	p      *process
}

// StartDocker starts the daemon. It keeps everything below dir.
func StartDocker(ctx context.Context, dir string) (*Docker, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o600); err != nil {
		return nil, err
	}
	d := &Docker{socket: "unix://" + filepath.Join(dir, "sock")}
	cmd := exec.Command("dockerd",
		"--config-file", config, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--host", d.socket,
		"--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none", "--storage-driver=overlay2")
	// It starts containerd and runc, which may be where only root looks.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	var err error
	d.p, err = start(ctx, cmd, func(line string) bool { return strings.Contains(line, "API listen on") })
	return d, err
}

// Load gives the daemon an image.
func (d *Docker) Load(ctx context.Context, ref string, img v1.Image) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		return err
	}
	cmd := d.Command(ctx, "load")
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker load: %w\n%s", err, out)
	}
	return nil
}

// Host is where the daemon listens, as DOCKER_HOST has it.
func (d *Docker) Host() string { return d.socket }

// Command is a command of docker's, to be run.
func (d *Docker) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "docker", append([]string{"--host", d.socket}, args...)...)
}

// Output runs a command of docker's and returns what it prints.
func (d *Docker) Output(ctx context.Context, args ...string) (string, error) {
	var out, log bytes.Buffer
	cmd := d.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w\n%s", args[0], err, log.String())
	}
	return out.String(), nil
}

// Stop removes all containers and ends the daemon. Its data stays.
func (d *Docker) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ids, err := d.Output(ctx, "ps", "--all", "--quiet")
	if list := strings.Fields(ids); len(list) > 0 {
		_, rmErr := d.Output(ctx, append([]string{"rm", "--force"}, list...)...)
		err = errors.Join(err, rmErr)
	}
	return errors.Join(err, d.p.stop())
}
