package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// TestDriversInContainers runs the conformance suite of the drivers that need no privileges where they are for.
func TestDriversInContainers(t *testing.T) {
	for _, s := range settings() {
		if s.copies || s.name == "cluster" {
			continue
		}
		t.Run(s.driver, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "suite")
			cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "./pkg/sandbox/"+s.driver)
			cmd.Dir = repository()
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			c := s.start(t)
			c.docker(t, "cp", program, c.name+":"+filepath.Dir(s.program)+"/suite")
			if _, err := c.try(t.Context(), t, "/bin/sh", "-c", "[ -e /bin/busybox ]"); err != nil {
				c.docker(t, "cp", "/bin/busybox", c.name+":/bin/")
			}
			args := []string{"/bin/sh", "-c", fmt.Sprintf("mkdir -p %[1]s; TMPDIR=%[1]s exec %[2]s/suite -test.v \"$@\"",
				filepath.Dir(s.work)+"/tmp", filepath.Dir(s.program)), "sh"}
			switch {
			case s.ordinary:
				// The machine's own tests run all of the suite. What is different here is a /proc in which processes have other numbers.
				args = append(args, "-test.run", "^TestOneOwner$/^owners$")
			case s.driver == "inplace":
				args = append(args, "-test.run", "^TestDriver$", "-container")
			default:
				args = append(args, "-test.run", "^TestDriver$")
			}
			if out := c.run(t, args...); !strings.Contains(out, "/owners/") {
				t.Error(out)
			}
		})
	}
}

// settingOf finds the setting for which a driver is.
func settingOf(driver string) setting {
	list := settings()
	return list[slices.IndexFunc(list, func(s setting) bool { return s.driver == driver })]
}

// lay writes a context with a Dockerfile and returns the job that builds it.
func (c *container) lay(t *testing.T, dockerfile string) parts.Job {
	t.Helper()
	dir, err := os.MkdirTemp(c.contexts, "red-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return parts.Job{Context: dir, Dockerfile: "Dockerfile", NoCache: true}
}

// TestRuntimeMounts is traps 29 and 30: what the runtime has mounted, such as a service account's token, and a GPU's device, program and
// library, is not in a step's way, not wiped, and in no layer; files of the image in the same places are kept in the image.
func TestRuntimeMounts(t *testing.T) {
	const smi, cuda = "/usr/bin/nvidia-smi", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
	gpu := filepath.Join(t.TempDir(), "gpu")
	if err := os.WriteFile(gpu, []byte("the machine's"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, driver := range []string{"inplace", "chroot"} {
		t.Run(driver, func(t *testing.T) {
			s := settingOf(driver)
			s.name += "-mounts"
			s.options = append(slices.Clip(s.options), "--memory", "512m", "--device", "/dev/null:/dev/nvidia0",
				"--volume", gpu+":"+smi+":ro", "--volume", gpu+":"+cuda+":ro", "--volume", "SECRETS:/var/run/secrets/kubernetes.io/serviceaccount:ro")
			c := s.start(t)
			job := c.lay(t, "FROM "+busybox(t)+`
RUN [ ! -e /var/run/secrets/kubernetes.io ] && ! grep -r '[t]he token of the cluster' /var /run && [ ! -e `+smi+` ] && [ ! -e `+cuda+` ]
RUN mkdir -p /var/run/secrets/kubernetes.io/serviceaccount && echo image > /var/run/secrets/kubernetes.io/serviceaccount/token
RUN echo image > `+smi+` && mkdir -p /usr/lib/x86_64-linux-gnu && echo image > `+cuda+`
RUN mv `+smi+` /usr/bin/moved && echo again > `+smi+` && rm `+cuda+` && echo again > `+cuda+`
RUN cp -r /var/run/secrets/kubernetes.io/serviceaccount /kept && rm -rf /var/run/* && mv /run /elsewhere && mkdir /run
`)
			job.Destination = registry(t).Addr + "/mounts/" + driver + ":1"
			before := c.list(t)
			for range 2 {
				if err := c.build(t.Context(), t, job); err != nil {
					t.Fatal(err)
				}
			}
			img := pull(t.Context(), t, job.Destination)
			got := files(t, img)
			for path, want := range map[string]string{smi: "again\n", cuda: "again\n", "/usr/bin/moved": "image\n", "/kept/token": "image\n"} {
				if got[path[1:]] != want {
					t.Errorf("%s is %q", path, got[path[1:]])
				}
			}
			if slices.Contains(list(t, img), "dev/nvidia0") {
				t.Error("the device is in the image")
			}
			if got := c.run(t, "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token", smi, cuda); got != clusterToken+"the machine's"+"the machine's" {
				t.Errorf("the mounted files are %q", got)
			}
			if after := c.list(t); !slices.Equal(before, after) {
				t.Errorf("the container has changed:\n%s", difference(before, after))
			}
		})
	}
}

// TestNowhereToRun holds what the error of a RUN says where nothing can run it: what is missing in one line, and in the next the
// smallest changes that would help.
func TestNowhereToRun(t *testing.T) {
	list := settings()
	c := list[slices.IndexFunc(list, func(s setting) bool { return s.copies })].start(t)
	err := c.build(t.Context(), t, c.lay(t, "FROM "+busybox(t)+"\nRUN true\n"))
	if err == nil {
		t.Fatal("a step has run")
	}
	_, text, _ := strings.Cut(err.Error(), "error: ")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "overlay, directory: user namespaces are not permitted here; inplace, chroot: uid 1500 is not root") ||
		!strings.HasPrefix(lines[1], "any of these helps: ") || strings.Count(lines[1], "; ") != 2 {
		t.Errorf("error %q", lines)
	}
	out := c.run(t, c.program, "doctor", "--work-dir", c.work, "--format", "json")
	if strings.Count(out, `"works": false`) != 4 || !strings.Contains(out, `"noNewPrivileges": true`) {
		t.Error(out)
	}
}

// difference lists the lines that only one has.
func difference(a, b []string) string {
	var out strings.Builder
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintf(&out, "- %s\n", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintf(&out, "+ %s\n", line)
		}
	}
	return out.String()
}

// TestKilledInPlace kills a build while a step runs. When its child lives, that puts the container's files back; when the child alone is
// killed, the build does; and when both are, the next start.
func TestKilledInPlace(t *testing.T) {
	const builder, child = "/gobuild/gobuild", "gobuild-sandbox-child"
	marked := []string{"/bin/sh", "-c", "read x < /marker"} // the one program that both the container and the step have
	type blow struct {
		victim string
		signal syscall.Signal
	}
	for _, c := range []struct {
		name  string
		blows []blow
	}{
		{"builder", []blow{{builder, syscall.SIGKILL}}},
		{"child", []blow{{child, syscall.SIGKILL}}},
		{"both", []blow{{builder, syscall.SIGSTOP}, {child, syscall.SIGKILL}, {builder, syscall.SIGKILL}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := settingOf("inplace").start(t)
			warm := box.lay(t, "FROM "+busybox(t)+"\nRUN true\n")
			if err := box.build(t.Context(), t, warm); err != nil {
				t.Fatal(err)
			}
			before := box.list(t)
			slow := box.lay(t, "FROM "+busybox(t)+"\nRUN echo here > /marker && while :; do sleep 1; done\n")
			done := make(chan error, 1)
			go func() { done <- box.build(context.Background(), t, slow) }()
			waitFor(t, func() bool {
				select {
				case err := <-done:
					t.Fatalf("the build has ended: %v", err)
				default:
				}
				_, err := box.try(t.Context(), t, marked...)
				return err == nil
			})
			for _, b := range c.blows {
				box.kill(t, b.victim, b.signal)
			}
			if err := <-done; err == nil {
				t.Error("the build ended well")
			}
			if len(c.blows) > 1 {
				if got := box.run(t, builder, "doctor", "--work-dir", box.work); !strings.Contains(got, "inplace    yes, and used") {
					t.Error(got)
				}
			}
			waitFor(t, func() bool { _, err := box.try(t.Context(), t, marked...); return err != nil })
			waitFor(t, func() bool { _, err := box.try(t.Context(), t, "/bin/sh", "-c", "true"); return err == nil })
			if after := box.list(t); !slices.Equal(before, after) {
				t.Errorf("the container has changed:\n%s", difference(before, after))
			}
			if err := box.build(t.Context(), t, warm); err != nil {
				t.Errorf("the next build: %v", err)
			}
		})
	}
}

// kill kills the processes of the container whose first argument is name.
func (c *container) kill(t *testing.T, name string, signal syscall.Signal) {
	t.Helper()
	killed := 0
	for line := range strings.Lines(c.docker(t, "top", c.name, "-eo", "pid,args")) {
		f := strings.Fields(line)
		var pid int
		if len(f) < 2 || f[1] != name {
			continue
		}
		if _, err := fmt.Sscan(f[0], &pid); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		killed++
	}
	if killed != 1 {
		t.Errorf("killed %d processes %q", killed, name)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never comes")
		}
	}
}
