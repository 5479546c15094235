package integration

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// TestImageRuns builds the example, pulls it, unpacks it with tar, and starts its entrypoint in a chroot.
func TestImageRuns(t *testing.T) {
	ctx := t.Context()
	ref := registry(t).Addr + "/runs/hello:1"
	job := parts.Job{Context: filepath.Join(repository(), "examples", "hello"), Dockerfile: "Dockerfile", Destination: ref,
		BuildArgs: []string{"BASE=" + busybox(t), "NAME=test"}}
	if _, err := runGobuild(ctx, t, args(job, filepath.Join(t.TempDir(), "w"))...); err != nil {
		t.Fatal(err)
	}
	img := pull(ctx, t, ref)
	root := t.TempDir()
	files := mutate.Extract(img)
	defer files.Close()
	unpack := exec.CommandContext(ctx, "tar", "-xp", "-C", root)
	unpack.Stdin = files
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, c.Config.Entrypoint[0])
	cmd.Env, cmd.Dir = c.Config.Env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "HELLO, test!") {
		t.Errorf("the image answers %q, %v", out, err)
	}
}

// TestImageRunsInRunc starts an image the way container engines do.
func TestImageRunsInRunc(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	bundle := t.TempDir()
	put(t, filepath.Join(dir, "Dockerfile"), "FROM "+busybox(t)+"\nRUN echo from a step >/made && chown app /made\nUSER app\nCMD [\"cat\", \"/made\"]\n")
	// The folder of a root filesystem is the user's, and so is its mode.
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	job := parts.Job{Context: dir, Dockerfile: "Dockerfile"}
	a := append(args(job, filepath.Join(t.TempDir(), "w")), "--output", "type=local,dest="+filepath.Join(bundle, "rootfs"))
	if _, err := runGobuild(ctx, t, a...); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(bundle, "config.json"), `{"ociVersion": "1.0.2",
		"process": {"args": ["cat", "/made"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 1000, "gid": 1000}},
		"root": {"path": "rootfs"}, "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
		"linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]}}`)
	id := "gobuild-test-" + filepath.Base(filepath.Dir(bundle))
	cmd := exec.CommandContext(ctx, "runc", "--root", filepath.Join(t.TempDir(), "runc"), "run", "--bundle", bundle, id)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "from a step\n" {
		t.Errorf("the container says %q, %v", out, err)
	}
}

// TestTimesKeepNanoseconds holds what the comparison with BuildKit leaves out.
func TestTimesKeepNanoseconds(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	when := time.Date(2009, 9, 9, 9, 9, 9, 987654321, time.UTC)
	put(t, filepath.Join(dir, "f"), "f")
	if err := os.Chtimes(filepath.Join(dir, "f"), when, when); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "Dockerfile"), "FROM "+busybox(t)+"\nCOPY f /copied\nCOPY f /other\nRUN mv /other /made\n")
	ref := registry(t).Addr + "/times:1"
	if _, err := runGobuild(ctx, t, args(parts.Job{Context: dir, Dockerfile: "Dockerfile", Destination: ref}, filepath.Join(t.TempDir(), "w"))...); err != nil {
		t.Fatal(err)
	}
	files := mutate.Extract(pull(ctx, t, ref))
	defer files.Close()
	seen := 0
	for tr := tar.NewReader(files); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "copied" || h.Name == "made" {
			seen++
			if !h.ModTime.Equal(when) {
				t.Errorf("%s bears %v, want %v", h.Name, h.ModTime.UTC(), when)
			}
		}
	}
	if seen != 2 {
		t.Errorf("the image has %d of 2 files", seen)
	}
}

// TestOtherTools reads what gobuild writes with skopeo: an archive for docker load, and an OCI layout.
func TestOtherTools(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "context", "Dockerfile"), "FROM "+busybox(t)+"\nRUN echo 1 >/one\n")
	job := parts.Job{Context: filepath.Join(dir, "context"), Dockerfile: "Dockerfile", Destination: registry(t).Addr + "/tools:1"}
	a := append(args(job, filepath.Join(dir, "w")), "--tar-path", filepath.Join(dir, "image.tar"),
		"--oci-layout-path", filepath.Join(dir, "layout"), "--digest-file", filepath.Join(dir, "digest"))
	if _, err := runGobuild(ctx, t, a...); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"docker-archive:" + filepath.Join(dir, "image.tar"), "oci:" + filepath.Join(dir, "layout"), "docker://" + job.Destination} {
		out, err := exec.CommandContext(ctx, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", source, "dir:"+t.TempDir()).CombinedOutput()
		if err != nil {
			t.Errorf("skopeo copy %s: %v\n%s", source, err, out)
		}
	}
	want, err := pull(ctx, t, job.Destination).Digest()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "digest"))
	if err != nil || string(bytes.TrimSpace(got)) != want.String() {
		t.Errorf("the digest file has %q, %v; want %s", got, err, want)
	}
}

func put(t *testing.T, file, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestEpochHoldsForCachedSteps builds without an epoch first: what that build has kept must not show when there is one.
func TestEpochHoldsForCachedSteps(t *testing.T) {
	ctx := t.Context()
	dir, work := t.TempDir(), filepath.Join(t.TempDir(), "w")
	put(t, filepath.Join(dir, "Dockerfile"), "FROM "+busybox(t)+"\nCOPY Dockerfile /f\nRUN true\nENV A=1\n")
	job := parts.Job{Context: dir, Dockerfile: "Dockerfile", Destination: registry(t).Addr + "/epoch:1"}
	for _, epoch := range []string{"", "1600000000"} {
		t.Setenv("SOURCE_DATE_EPOCH", epoch)
		if _, err := runGobuild(ctx, t, args(job, work)...); err != nil {
			t.Fatal(err)
		}
	}
	c, err := pull(ctx, t, job.Destination).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := time.Unix(1600000000, 0)
	for _, h := range c.History[1:] {
		if !h.Created.Equal(want) {
			t.Errorf("%s: created %v, want %v", h.CreatedBy, h.Created.UTC(), want.UTC())
		}
	}
}
