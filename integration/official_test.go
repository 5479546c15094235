package integration

import (
	"archive/tar"
	"context"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// images are gobuild's own, as scripts/image has made them: in archives in dir, and in the container engine by their names.
type images struct{ dir, plain, debug string }

// official builds gobuild's own image the way a release is built, and gives it to the container engine.
func official(t testing.TB) images {
	d := docker(t)
	return world.official.get(t, func(ctx context.Context) (images, error) {
		i := images{dir: filepath.Join(world.dir, "image"), plain: "gobuild:1", debug: "gobuild:1-debug"}
		cache, err := imageParts(ctx)
		if err != nil {
			return i, err
		}
		cmd := exec.CommandContext(ctx, filepath.Join(repository(), "scripts", "image"), "--work-dir", filepath.Join(world.dir, "image-work"))
		cmd.Env = append(os.Environ(), "IMAGE=gobuild:1", "OUT="+i.dir, "PARTS="+cache, "PUSH=", "ARCHES=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return i, fmt.Errorf("scripts/image: %w\n%s", err, out)
		}
		for _, archive := range []string{"gobuild-image.tar", "gobuild-image-debug.tar"} {
			if _, err := d.Output(ctx, "load", "--input", filepath.Join(i.dir, archive)); err != nil {
				return i, err
			}
		}
		return i, nil
	})
}

// imageParts returns the directory of certificates and busybox, which is kept between runs.
func imageParts(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "gobuild-tests", "image-parts")
	cmd := exec.CommandContext(ctx, filepath.Join(repository(), "scripts", "image-parts"), dir, runtime.GOARCH, "arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("scripts/image-parts: %w\n%s", err, out)
	}
	return dir, nil
}

// runImage runs a container of an image to its end and returns what it prints.
func runImage(t *testing.T, image string, options, args []string) (string, error) {
	t.Helper()
	words := append([]string{"run", "--rm", "--network", "host"}, options...)
	out, err := docker(t).Command(t.Context(), append(append(words, image), args...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("docker run %q: %w\n%s", args, err, out)
	}
	return string(out), nil
}

func mustRunImage(t *testing.T, image string, options, args []string) string {
	t.Helper()
	out, err := runImage(t, image, options, args)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// workspace lays a context that any user may write to.
func workspace(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	for _, err := range []error{os.Chmod(dir, 0o777), os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestOfficialImageHoldsNothingElse holds what is in the image, how much that weighs, and what it says of itself.
func TestOfficialImageHoldsNothingElse(t *testing.T) {
	i := official(t)
	for _, archive := range []string{"gobuild-image.tar", "gobuild-image-debug.tar"} {
		fi, err := os.Stat(filepath.Join(i.dir, archive))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MB compressed", archive, float64(fi.Size())/1e6)
		if fi.Size() > 20e6 { // twice what it was when this was written
			t.Errorf("%s has %d bytes", archive, fi.Size())
		}
	}
	img := fromArchive(t, filepath.Join(i.dir, "gobuild-image.tar"), i.plain)
	paths := list(t, img)
	want := []string{
		"etc", "etc/group", "etc/passwd", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt",
		"gobuild", "gobuild/cache", "gobuild/disposable", "gobuild/gobuild",
		"kaniko", "kaniko/.docker", "kaniko/executor", "kaniko/ssl", "kaniko/ssl/certs", "kaniko/ssl/certs/ca-certificates.crt", "kaniko/warmer",
		"root", "tmp", "workspace",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("files:\n%s", difference(want, paths))
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"title", "source", "licenses", "version", "description"} {
		if c.Config.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("no label %s: %v", label, c.Config.Labels)
		}
	}
}

// list lists the paths of an image.
func list(t *testing.T, img v1.Image) []string {
	t.Helper()
	rc := mutate.Extract(img)
	defer rc.Close()
	var paths []string
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(paths)
			return paths
		}
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, strings.Trim(h.Name, "/"))
	}
}

func fromArchive(t *testing.T, file, ref string) v1.Image {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestOfficialImageAnswers(t *testing.T) {
	i := official(t)
	if out := mustRunImage(t, i.plain, nil, []string{"--version"}); !strings.HasPrefix(out, "gobuild ") {
		t.Errorf("version: %q", out)
	}
	out := mustRunImage(t, i.plain, nil, []string{"doctor"})
	if !strings.Contains(out, "inplace    yes, and used by --isolation=auto") || !strings.Contains(out, "work directory /gobuild/cache/gobuild") {
		t.Errorf("doctor:\n%s", out)
	}
}

// locked is a registry that wants a password, and the config.json that has it.
func locked(t *testing.T) (addr, config string) {
	t.Helper()
	const alice = "alice:$2a$04$zeRKRLyOPC5vZYCzes23qOK3/cGQJxYAJeMC.3Kk/gHtt4fjE/uZ2\n" // secret
	r, err := parts.StartRegistry(t.Context(), filepath.Join(t.TempDir(), "locked"), parts.RegistryOptions{Htpasswd: alice})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r.Addr, fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.Addr, base64.StdEncoding.EncodeToString([]byte("alice:secret")))
}

// pullAs pulls an image from a registry that wants a password.
func pullAs(t *testing.T, ref, user, password string) (v1.Image, error) {
	t.Helper()
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return nil, err
	}
	return remote.Image(r, remote.WithContext(t.Context()), remote.WithAuth(&authn.Basic{Username: user, Password: password}))
}

// TestKanikoJob runs jobs as they are written for Kaniko's image, with default settings of the engine: a build that has to be
// isolated, and that looks for the job's credentials.
func TestKanikoJob(t *testing.T) {
	i := official(t)
	addr, config := locked(t)
	base := busybox(t)
	// The words are split so that the step does not find itself.
	context := workspace(t, "FROM "+base+`
COPY Dockerfile /copied
RUN id -u > /made && ! env | grep CI_ && ! cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep '[C]I_REGISTRY' && \
    ! cat /kaniko/.docker/config.json 2>/dev/null
`)
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	volume := []string{"--volume", context + ":/workspace"}
	job := []string{"--dockerfile=Dockerfile", "--context=dir:///workspace", "--snapshot-mode=redo", "--use-new-run", "--cleanup"}
	secrets := t.TempDir()
	if err := os.WriteFile(filepath.Join(secrets, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		options []string
	}{
		{"executor-and-secret", []string{"--entrypoint", "/kaniko/executor", "--volume", secrets + ":/elsewhere:ro", "--env", "DOCKER_CONFIG=/elsewhere"}},
		{"args-alone", []string{"--env", "DOCKER_AUTH_CONFIG=" + config}},
		{"gitlab-variables", []string{"--env", "CI_REGISTRY=" + addr, "--env", "CI_REGISTRY_USER=alice", "--env", "CI_REGISTRY_PASSWORD=secret"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ref := addr + "/kaniko/" + tc.name + ":1"
			mustRunImage(t, i.plain, append(slices.Clip(volume), tc.options...), append(slices.Clip(job), "--destination="+ref))
			img, err := pullAs(t, ref, "alice", "secret")
			if err != nil {
				t.Fatal(err)
			}
			if got := files(t, img); got["made"] == "" || got["copied"] == "" {
				t.Errorf("files: %v", got)
			}
		})
	}
	t.Run("no-credentials", func(t *testing.T) {
		out, err := runImage(t, i.plain, volume, append(slices.Clip(job), "--destination="+addr+"/kaniko/none:1"))
		if err == nil || !strings.Contains(out, "looked in /kaniko/.docker/config.json, which does not exist, then the credential helpers ecr") {
			t.Errorf("it says %v:\n%s", err, out)
		}
	})
	t.Run("gitlab-script", func(t *testing.T) {
		// What a runner starts with entrypoint: [""], and a job that builds twice and goes on.
		script := `set -e
mkdir -p /kaniko/.docker
echo "$CONFIG" > /kaniko/.docker/config.json
/kaniko/executor --context "$CI_PROJECT_DIR" --dockerfile "$CI_PROJECT_DIR/Dockerfile" --destination "$ADDR/gitlab/x:1" --digest-file /tmp/digest --no-cache
executor --context "$CI_PROJECT_DIR" --destination "$ADDR/gitlab/x:2" --no-cache
test -s /tmp/digest && ls / && cat /kaniko/.docker/config.json >/dev/null && echo the job goes on`
		out := mustRunImage(t, i.debug, []string{
			"--entrypoint", "", "--volume", context + ":/builds/group/x", "--env", "CI_PROJECT_DIR=/builds/group/x", "--env", "ADDR=" + addr, "--env", "CONFIG=" + config,
		}, []string{"sh", "-c", script})
		if !strings.Contains(out, "the job goes on") {
			t.Error(out)
		}
		for _, tag := range []string{"1", "2"} {
			if _, err := pullAs(t, addr+"/gitlab/x:"+tag, "alice", "secret"); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHelpersAreAskedBeforeSteps: a program that gives credentials is out of place while a step runs, which is when layers are
// uploaded; what it has said before is used.
func TestHelpersAreAskedBeforeSteps(t *testing.T) {
	i := official(t)
	addr, _ := locked(t)
	context := workspace(t, "FROM "+busybox(t)+"\nCOPY Dockerfile /copied\nRUN sleep 2\nRUN sleep 2; echo yes > /made\n")
	script := `set -e
mkdir -p /usr/local/bin
printf '#!/bin/sh\necho \047{"Username":"alice","Secret":"secret"}\047\n' > /usr/local/bin/docker-credential-test
chmod +x /usr/local/bin/docker-credential-test
echo '{"credsStore":"test"}' > /kaniko/.docker/config.json
gobuild --destination ` + addr + `/helped/x:1`
	mustRunImage(t, i.debug, []string{"--entrypoint", "", "--volume", context + ":/workspace"}, []string{"sh", "-c", script})
	img, err := pullAs(t, addr+"/helped/x:1", "alice", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if got := files(t, img); got["made"] == "" {
		t.Error("the step has left nothing")
	}
}

// TestKanikoWarmer fills a cache with base images and has a build begin with them.
func TestKanikoWarmer(t *testing.T) {
	i := official(t)
	cache := t.TempDir()
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	base := busybox(t)
	volume := []string{"--volume", cache + ":/cache"}
	mustRunImage(t, i.plain, append(volume, "--entrypoint", "/kaniko/warmer"), []string{"--image=" + base, "--cache-dir=/cache"})
	if _, err := os.Stat(filepath.Join(cache, "oci-layout")); err != nil {
		t.Error(err)
	}
	context := workspace(t, "FROM "+base+"\nRUN echo yes > /made\n")
	ref := registry(t).Addr + "/kaniko/warm:1"
	mustRunImage(t, i.plain, append(volume, "--volume", context+":/workspace", "--entrypoint", "/kaniko/executor"), []string{"--cache=true", "--destination=" + ref})
	if got := files(t, pull(t.Context(), t, ref)); got["made"] == "" {
		t.Error("the step has left nothing")
	}
}

// TestOfficialImageAsAnybody builds as what clusters make of it: any user, in root's group or not, without capabilities, with
// a root directory that cannot be written to.
func TestOfficialImageAsAnybody(t *testing.T) {
	i := official(t)
	context := workspace(t, "FROM "+busybox(t)+"\nCOPY Dockerfile /copied\n")
	volume := t.TempDir()
	if err := os.Chmod(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	drop := []string{"--cap-drop", "ALL", "--security-opt", "no-new-privileges"}
	for name, options := range map[string][]string{
		"openshift": append([]string{"--user", "1000680000:0"}, drop...),
		"user":      append([]string{"--user", "1500:1500"}, drop...),
		"read-only": append([]string{"--user", "1500:1500", "--read-only", "--volume", volume + ":/gobuild/cache"}, drop...),
		"root":      {"--read-only", "--volume", volume + ":/gobuild/cache"},
	} {
		t.Run(name, func(t *testing.T) {
			ref := registry(t).Addr + "/anybody/" + name + ":1"
			mustRunImage(t, i.plain, append([]string{"--volume", context + ":/workspace:ro"}, options...), []string{"--destination", ref})
			if got := files(t, pull(t.Context(), t, ref)); got["copied"] == "" {
				t.Error("the file is not there")
			}
		})
	}
}

// TestOfficialImageForAnotherArchitecture builds the image for one that this machine cannot run.
func TestOfficialImageForAnotherArchitecture(t *testing.T) {
	cache, err := imageParts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	programs, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(programs, "gobuild-arm64"), []byte("its program"), 0o755); err != nil {
		t.Fatal(err)
	}
	ref := registry(t).Addr + "/image/arm64:1"
	_, err = runGobuild(t.Context(), t, "-c", repository(), "-f", filepath.Join(repository(), "deploy", "Dockerfile"), "--target", "debug",
		"--platform", "linux/arm64", "--build-context", "program="+programs, "--build-context", "parts="+cache,
		"--work-dir", filepath.Join(t.TempDir(), "work"), "--destination", ref, "--output", "type=local,dest="+out)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pull(t.Context(), t, ref).ConfigFile()
	if err != nil || c.Architecture != "arm64" {
		t.Errorf("architecture %q, %v", c.Architecture, err)
	}
	if b, err := os.ReadFile(filepath.Join(out, "gobuild", "gobuild")); err != nil || string(b) != "its program" {
		t.Errorf("program %q, %v", b, err)
	}
	box, err := elf.Open(filepath.Join(out, "busybox", "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	if box.Machine != elf.EM_AARCH64 {
		t.Errorf("busybox is for %s", box.Machine)
	}
	box.Close()
}
