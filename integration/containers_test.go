package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/integration/internal/casefile"
	"github.com/gobuild-dev/gobuild/integration/internal/imagediff"
	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// container is a running container with gobuild in it.
type container struct {
	name string
	// contexts is the folder that it has as /context, work its work directory.
	contexts, work string
	// config is the directory of Docker's config.json.
	config  string
	program string
	driver  string
}

// setting is a way in which people run containers.
type setting struct {
	name string
	// options are docker run's.
	options []string
	image   func(*testing.T) string
	program string
	// work and config are the container's.
	work, config string
	// copies says that no RUN can run there.
	copies bool
	// only is what the names of cases begin with that are worth it; all are when it is empty.
	only []string
	// ordinary says that the user is not root, and has one id to give to files.
	ordinary bool
	// once leaves it at one build of a case.
	once bool
	// driver is the one that has to be chosen, "" for none.
	driver string
}

func settings() []setting {
	disposable := setting{
		image: debugImage, program: "/gobuild/gobuild", work: "/gobuild/cache/gobuild", config: "/kaniko/.docker", driver: "inplace",
	}
	root, cluster, user, volume, restricted := disposable, disposable, disposable, disposable, disposable
	root.name = "root"
	cluster.name, cluster.only, cluster.once = "cluster", []string{"run-"}, true // it is the same driver as root's
	cluster.options = []string{"--memory", "512m", "--volume", "SECRETS:/var/run/secrets/kubernetes.io/serviceaccount:ro"}
	restricted.name, restricted.copies, restricted.driver = "restricted", true, ""
	// What drivers do in user namespaces the cases of ordinary users show; here it is what a container makes of it.
	user.name, user.driver, user.once, user.ordinary = "user", "directory", true, true
	user.only = []string{"run-mount-", "run-n", "run-s", "run-u", "user-"}
	user.options = []string{"--user", "1500", "--security-opt", "seccomp=unconfined"}
	volume.name, volume.driver, volume.once, volume.ordinary = "user-volume", "overlay", true, true
	volume.only = []string{"run-mount-c", "user-"}
	volume.options = append(slices.Clip(user.options), "--volume", "VOLUME:/gobuild/cache")
	restricted.options = []string{
		"--user", "1500", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "--volume", "VOLUME:/gobuild/cache",
	}
	return []setting{root, cluster, user, volume, restricted, {
		name: "elsewhere", image: debianImage, program: "/usr/local/bin/gobuild", work: "/var/tmp/work", config: "/var/tmp/.docker", driver: "chroot",
	}}
}

// debugImage is gobuild's own image in the variant with a shell.
func debugImage(t *testing.T) string { return official(t).debug }

// debianImage is somebody's image into which gobuild will be copied.
func debianImage(t *testing.T) string {
	img, d := pull(t.Context(), t, debian(t)), docker(t)
	return world.box.get(t, func(ctx context.Context) (string, error) {
		return "gobuild-test:debian", d.Load(ctx, "gobuild-test:debian", img)
	})
}

// start starts a container that waits for commands.
func (s setting) start(t *testing.T) *container {
	t.Helper()
	dir := t.TempDir()
	c := &container{
		name: "gobuild-" + s.name + "-" + filepath.Base(filepath.Dir(dir)), contexts: filepath.Join(dir, "contexts"),
		work: s.work, config: s.config, program: s.program, driver: s.driver,
	}
	volumes := map[string]string{"SECRETS": filepath.Join(dir, "secrets"), "VOLUME": filepath.Join(dir, "volume")}
	for _, d := range []string{c.contexts, volumes["SECRETS"], volumes["VOLUME"]} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(volumes["SECRETS"], "token"), []byte(clusterToken), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--detach", "--network", "host", "--name", c.name, "--volume", c.contexts + ":/context"}
	for _, o := range s.options {
		for name, path := range volumes {
			o = strings.Replace(o, name+":", path+":", 1)
		}
		args = append(args, o)
	}
	c.docker(t, append(args, "--entrypoint", "tail", s.image(t), "-f", "/dev/null")...)
	t.Cleanup(func() { c.remove(t) })
	if s.program != "/gobuild/gobuild" {
		c.docker(t, "cp", gobuild(t), c.name+":"+s.program)
	}
	return c
}

const clusterToken = "the token of the cluster"

func (c *container) remove(t *testing.T) {
	if out, err := docker(t).Command(context.Background(), "rm", "--force", c.name).CombinedOutput(); err != nil {
		t.Errorf("remove container: %v\n%s", err, out)
	}
}

func (c *container) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := docker(t).Output(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try runs a command in the container and returns all that it prints.
func (c *container) try(ctx context.Context, t *testing.T, args ...string) (string, error) {
	words := []string{"exec", "--workdir", "/", "--env", "HOME=" + filepath.Dir(c.work), c.name}
	cmd := docker(t).Command(ctx, append(words, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

// run runs a command that has to succeed.
func (c *container) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.try(t.Context(), t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// build builds a job whose context is below c.contexts.
func (c *container) build(ctx context.Context, t *testing.T, j parts.Job) error {
	more, err := j.Gobuild()
	if err != nil {
		return err
	}
	words := []string{"env"}
	words = append(append(words, j.Env...), c.program)
	for _, a := range append(args(j, c.work), more...) {
		words = append(words, strings.ReplaceAll(a, c.contexts, "/context"))
	}
	if c.driver != "" {
		words = append(words, "--isolation", c.driver)
	}
	_, err = c.try(ctx, t, words...)
	return err
}

// list describes all files of the container, but for what gobuild keeps and what the kernel has.
func (c *container) list(t *testing.T) []string {
	t.Helper()
	out := c.run(t, "/bin/sh", "-c", "find / -xdev -path "+c.work+" -prune -o -path /context -prune -o "+
		"-exec stat -c '%n %f %u:%g' {} + | sort; find /dev -xdev | sort")
	return strings.Split(out, "\n")
}

// TestCasesInContainers builds cases that run something, and some that do not, in each setting, and compares the images with BuildKit's.
func TestCasesInContainers(t *testing.T) {
	comparer := &imagediff.Comparer{}
	for _, s := range settings() {
		documented(t, s.exceptions())
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			tryCases(t, comparer, containerSubject{s, s.start(t)}.subject(), s.takes, s.exceptions())
		})
	}
}

// takes reports whether a case is for a setting. One container builds one after another, so that not all can be built; nor are git,
// keys and further contexts where the container could see them.
func (s setting) takes(c *casefile.Case) bool {
	if !begins(c.Name, s.only) || len(c.Contexts) > 0 || len(c.Commits) > 0 || strings.HasPrefix(c.Name, "ssh-") || c.Exceptions["directory"] != "" {
		return false
	}
	if c.Runs() {
		return !s.copies
	}
	return strings.HasPrefix(c.Name, "copy-from-") || strings.HasPrefix(c.Name, "copy-mtime")
}

// begins reports whether name begins with one of words, of which there may be none.
func begins(name string, words []string) bool {
	return len(words) == 0 || slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(name, w) })
}

type containerSubject struct {
	setting   setting
	container *container
}

func (s containerSubject) subject() subject {
	return subject{name: s.setting.name, once: s.setting.once, build: func(ctx context.Context, t *testing.T, j parts.Job) error {
		// The context is where the container can see it.
		dir, err := os.MkdirTemp(s.container.contexts, "case-*")
		if err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		if err := copyFiles(ctx, j.Context+"/.", dir); err != nil {
			return err
		}
		j.Context = dir
		var secrets []string
		for i, word := range j.Secrets {
			if before, file, ok := strings.Cut(word, "src="); ok {
				here := fmt.Sprintf("%s.secret-%d", dir, i)
				if err := copyFiles(ctx, file, here); err != nil {
					return err
				}
				word = before + "src=" + here
			}
			secrets = append(secrets, word)
		}
		j.Secrets = secrets
		return s.container.build(ctx, t, j)
	}}
}

func copyFiles(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %q: %w\n%s", from, err, out)
	}
	return nil
}

// exceptions are the cases that cannot pass in a setting, with the headings of docs/isolation.md that say why.
func (s setting) exceptions() map[string]string {
	const (
		machine = "What a step sees of the machine"
		copies  = "Mounts are copies"
		network = "Network"
		inSight = "What stays in sight"
		hides   = "What containers hide"
	)
	if s.ordinary {
		all := userExceptions(true)
		all["run-network-none"] = hides
		return all
	}
	all := map[string]string{
		"run-environment": machine, "run-hostname": machine, "run-hostname-default": machine,
		"run-network-none": network, "run-security-insecure": network,
		"run-mounts-as-seen-and-left": copies, "run-mount-bind-is-read-only": copies, "run-mount-cache-read-only": copies,
		"run-mount-option-names": copies, "run-mount-tmpfs": copies, "run-mount-tmpfs-size": copies,
		"heredoc-run-shebang-is-executed-by-path": copies,
	}
	switch s.driver {
	case "chroot":
		maps.Copy(all, map[string]string{"run-network-host": machine, "run-security-sandbox": machine})
	case "inplace":
		maps.Copy(all, map[string]string{
			"secret-target-owner-and-mode": copies, "secret-default-target": copies,
			"copy-only-wildcards-that-match-nothing": inSight, "run-etc-hosts-is-no-change": inSight, "run-missing-mount-points": inSight,
		})
	}
	return all
}
