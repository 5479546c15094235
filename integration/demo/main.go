// Command demo shows a whole build on a machine without a network: it makes a base image from Debian's static busybox,
// starts a registry on the loopback interface, builds examples/hello with gobuild, pushes it, pulls it back and runs
// it. Everything it makes lies in a temporary folder that is gone afterwards.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
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
	gobuild := flag.String("gobuild", "bin/gobuild", "the program to show")
	example := flag.String("context", "examples/hello", "what to build")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *gobuild, *example); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, gobuild, example string) (err error) {
	dir, err := os.MkdirTemp("", "gobuild-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.RemoveAll(dir)) }()

	reg, err := parts.StartRegistry(ctx, filepath.Join(dir, "registry"), parts.RegistryOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.Stop()) }()
	say("a registry listens on %s", reg.Addr)

	base := reg.Addr + "/busybox:demo"
	img, err := parts.Busybox(ctx, dir)
	if err != nil {
		return err
	}
	if err := parts.Push(ctx, base, img); err != nil {
		return err
	}
	say("a base image of this machine's busybox is pushed to %s", base)

	ref := reg.Addr + "/hello:demo"
	for _, turn := range []string{"gobuild builds and pushes", "and again: now every step is known"} {
		say("%s %s", turn, ref)
		start := time.Now()
		args := []string{"--context", example, "--build-arg", "BASE=" + base, "--build-arg", "NAME=stranger",
			"--destination", ref, "--insecure-registry", reg.Addr, "--work-dir", filepath.Join(dir, "work")}
		if err := run(ctx, gobuild, args...); err != nil {
			return err
		}
		say("done in %v", time.Since(start).Round(time.Millisecond))
	}

	pulled, err := pull(ctx, ref)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	if err := extract(ctx, pulled, root); err != nil {
		return err
	}
	say("the image is pulled back and unpacked; its entrypoint says:")
	return start(ctx, pulled, root)
}

func say(format string, args ...any) {
	fmt.Printf("\n==> "+format+"\n", args...)
}

func run(ctx context.Context, program string, args ...string) error {
	fmt.Println("  $", program, strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}

func pull(ctx context.Context, ref string) (v1.Image, error) {
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return nil, err
	}
	img, err := remote.Image(r, remote.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	say("the registry has %s@%s", ref, digest)
	return img, nil
}

// extract unpacks an image with the machine's own tar.
func extract(ctx context.Context, img v1.Image, root string) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	files := mutate.Extract(img)
	defer files.Close()
	cmd := exec.CommandContext(ctx, "tar", "-xp", "--no-same-owner", "-C", root)
	cmd.Stdin, cmd.Stderr = files, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	_, err := io.Copy(io.Discard, files)
	return err
}

// start runs the image's entrypoint, chrooted. It need not be root for that where user namespaces are allowed.
func start(ctx context.Context, img v1.Image, root string) error {
	c, err := img.ConfigFile()
	if err != nil {
		return err
	}
	argv := append(c.Config.Entrypoint, c.Config.Cmd...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = c.Config.Env, "/"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %q: %w", argv, err)
	}
	return nil
}
