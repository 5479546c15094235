package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	program        string
	driver         string
}

// setting is a way in which people run containers.
type setting struct {
	name string
	// options are docker run's.
	options []string
	image   func(*testing.T) string
	program string
	work    string
	// copies says that no RUN can run there.
	copies bool
	// driver is the one that has to be chosen, "" for none.
	driver string
}

func settings() []setting {
	disposable := setting{image: disposableImage, program: "/gobuild/gobuild", work: "/gobuild/work", driver: "inplace"}
	root, cluster, restricted := disposable, disposable, disposable
	root.name = "root"
	cluster.name = "cluster"
	cluster.options = []string{"--memory", "512m", "--volume", "SECRETS:/var/run/secrets/kubernetes.io/serviceaccount:ro"}
	restricted.name, restricted.copies, restricted.driver = "restricted", true, ""
	restricted.work = "/volume/work"
	restricted.options = []string{
		"--user", "1500", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "--volume", "VOLUME:/volume",
	}
	return []setting{root, cluster, restricted, {
		name: "elsewhere", image: debianImage, program: "/usr/local/bin/gobuild", work: "/var/tmp/work", driver: "chroot",
	}}
}

func disposableImage(t *testing.T) string {
	img, err := parts.Disposable(t.Context(), world.dir, gobuild(t))
	if err == nil {
		err = docker(t).Load(t.Context(), "gobuild-test:disposable", img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return "gobuild-test:disposable"
}

// debianImage is somebody's image into which gobuild will be copied.
func debianImage(t *testing.T) string {
	img := pull(t.Context(), t, debian(t))
	if err := docker(t).Load(t.Context(), "gobuild-test:debian", img); err != nil {
		t.Fatal(err)
	}
	return "gobuild-test:debian"
}

// start starts a container that waits for commands.
func (s setting) start(t *testing.T) *container {
	t.Helper()
	dir := t.TempDir()
	c := &container{
		name: "gobuild-" + s.name + "-" + filepath.Base(filepath.Dir(dir)), contexts: filepath.Join(dir, "contexts"),
		work: s.work, program: s.program, driver: s.driver,
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
	c.docker(t, append(args, s.image(t), "tail", "-f", "/dev/null")...)
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
	words := []string{"exec", "--env", "HOME=" + filepath.Dir(c.work), c.name}
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
	words := []string{c.program}
	for _, a := range args(j, c.work) {
		words = append(words, strings.ReplaceAll(a, c.contexts, "/context"))
	}
	if c.driver != "" {
		words = append(words, "--isolation", c.driver)
	}
	_, err := c.try(ctx, t, words...)
	return err
}

// list describes all files of the container, but for what gobuild keeps and what the kernel has.
func (c *container) list(t *testing.T) []string {
	t.Helper()
	out := c.run(t, "/bin/sh", "-c", "find / -xdev -path "+c.work+" -prune -o -path /context -prune -o -print | sort | "+
		"while read -r f; do stat -c '%n %f %u:%g' \"$f\"; done; find /dev -xdev | sort")
	return strings.Split(out, "\n")
}

// TestCasesInContainers builds cases that run something, and some that do not, in each setting, and compares the images with BuildKit's.
func TestCasesInContainers(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join(repository(), "docs", "isolation.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, heading := range exceptions() {
		if !strings.Contains(string(docs), "\n### "+heading+"\n") {
			t.Errorf("%s: %q is no heading in docs/isolation.md", name, heading)
		}
	}
	files, err := filepath.Glob("cases/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	comparer := &imagediff.Comparer{}
	for _, s := range settings() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			in := containerSubject{s, s.start(t)}.subject()
			passed, tried := 0, 0
			for _, file := range files {
				c, err := casefile.Read(file)
				if err != nil {
					t.Fatal(err)
				}
				if !s.takes(c) {
					continue
				}
				tried++
				if t.Run(c.Name, func(t *testing.T) { runCase(t, c, comparer, []subject{in}) }) {
					passed++
				}
			}
			t.Logf("%d of %d cases pass, %d are not tried", passed, tried, len(files)-tried)
			if tried == 0 {
				t.Error("no cases")
			}
		})
	}
}

// takes reports whether a case is for a setting. One container builds one after another, so that not all can be built.
func (s setting) takes(c *casefile.Case) bool {
	if c.Runs() {
		heading := exceptions()[c.Name]
		return !s.copies && (heading == "" || heading == inSight && s.driver != "inplace")
	}
	return strings.HasPrefix(c.Name, "copy-from-") || strings.HasPrefix(c.Name, "copy-mtime")
}

type containerSubject struct {
	setting   setting
	container *container
}

func (s containerSubject) subject() subject {
	return subject{s.setting.name, func(ctx context.Context, t *testing.T, j parts.Job) error {
		// The context is where the container can see it.
		dir, err := os.MkdirTemp(s.container.contexts, "case-*")
		if err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, "cp", "-a", j.Context+"/.", dir).CombinedOutput(); err != nil {
			return fmt.Errorf("copy context: %w\n%s", err, out)
		}
		j.Context = dir
		return s.container.build(ctx, t, j)
	}}
}

// inSight is the heading of what is an exception in place alone.
const inSight = "What stays in sight"

// exceptions are the cases that drivers without namespaces and mounts cannot pass, with the headings of docs/isolation.md that say
// why.
func exceptions() map[string]string {
	return map[string]string{
		"run-environment":                        "What a step sees of the machine",
		"run-network-none":                       "Network",
		"run-mounts-as-seen-and-left":            "Mounts are copies",
		"copy-only-wildcards-that-match-nothing": inSight,
		"run-etc-hosts-is-no-change":             inSight,
		"run-missing-mount-points":               inSight,
		"run-write-to-hardlink-of-lower-layer":   "Hard links across layers",
	}
}
