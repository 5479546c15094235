package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// The cases are those that the package plan is tested with, which says what is in them.
const planCases = "../internal/plan/testdata"

// TestChecks asks BuildKit and gobuild what they have to say of each case of the linter, and compares the texts.
func TestChecks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(planCases, "checks", "*.txtar"))
	if err != nil || len(files) < 22 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, file := range files {
		rule := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for name, files := range layAsked(t, file) {
			t.Run(rule+"/"+name, func(t *testing.T) {
				t.Parallel()
				oracle, err := buildkit(t).Ask(t.Context(), "frontend.lint", files.job)
				if err != nil {
					t.Fatal(err)
				}
				got, status := askGobuild(t, "check", files.job)
				if diff := cmp.Diff(warningsIn(oracle), warningsIn(got)); diff != "" {
					t.Errorf("warnings (-BuildKit +gobuild):\n%s", diff)
				}
				if found := files.parts["want"] != ""; found != (status == 1) {
					t.Errorf("exit status is %d", status)
				}
			})
		}
	}
}

// TestOutlines compares what is printed of targets.
func TestOutlines(t *testing.T) {
	for name, files := range layAsked(t, filepath.Join(planCases, "outlines", "outlines.txtar")) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, command := range []string{"outline", "targets"} {
				if _, asked := files.parts[command]; !asked {
					continue
				}
				oracle, err := buildkit(t).Ask(t.Context(), "frontend."+command, files.job)
				if err != nil {
					t.Fatal(err)
				}
				got, status := askGobuild(t, command, files.job)
				// What stands on one line of the Dockerfile comes in any order in BuildKit.
				if diff := cmp.Diff(sortedLines(oracle), sortedLines(got)); diff != "" || status != 0 {
					t.Errorf("%s: exit status %d (-BuildKit +gobuild):\n%s", command, status, diff)
				}
			}
		})
	}
}

func sortedLines(text string) []string { return slices.Sorted(strings.Lines(text)) }

// asked is a case with its files in place.
type asked struct {
	parts map[string]string
	job   parts.Job
}

// layAsked writes the contexts of the cases in file.
func layAsked(t *testing.T, file string) map[string]*asked {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.NewReplacer("{{base}}", busybox(t), "{{arm64}}", foreign(t))
	cases := map[string]*asked{}
	for _, f := range a.Files {
		name, part, _ := strings.Cut(f.Name, "/")
		c := cases[name]
		if c == nil {
			c = &asked{map[string]string{}, parts.Job{Context: t.TempDir(), Dockerfile: "Dockerfile"}}
			cases[name] = c
		}
		data := names.Replace(string(f.Data))
		c.parts[part] = data
		switch part {
		case "Dockerfile", ".dockerignore":
			if err := os.WriteFile(filepath.Join(c.job.Context, part), []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		case "options":
			for line := range strings.Lines(data) {
				switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
				case "target":
					c.job.Target = value
				case "build-arg":
					c.job.BuildArgs = append(c.job.BuildArgs, value)
				}
			}
		}
	}
	return cases
}

// foreign is an image for a platform that is not this machine's.
func foreign(t *testing.T) string {
	t.Helper()
	img, err := parts.Image()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "arm64"
	layers, err := pull(t.Context(), t, busybox(t)).Layers()
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.ConfigFile(img, config); err == nil {
		img, err = mutate.AppendLayers(img, layers...)
	}
	if err != nil {
		t.Fatal(err)
	}
	ref := registry(t).Addr + "/base/foreign:1"
	if err := parts.Push(t.Context(), ref, img); err != nil {
		t.Fatal(err)
	}
	return ref
}

// askGobuild returns what a command printed on its standard output, and its exit status.
func askGobuild(t *testing.T, command string, j parts.Job) (string, int) {
	t.Helper()
	args := []string{command, "--context", j.Context, "--insecure-registry", registry(t).Addr}
	if j.Target != "" {
		args = append(args, "--target", j.Target)
	}
	for _, a := range j.BuildArgs {
		args = append(args, "--build-arg", a)
	}
	cmd := exec.CommandContext(t.Context(), gobuild(t), args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		t.Logf("%s", exit.Stderr)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// warningsIn are the warnings that a text holds, sorted: those of one line come in no order. BuildKit shows an empty line
// behind the end of a file.
func warningsIn(text string) []string {
	_, text, _ = strings.Cut("\n"+text, "\nWARNING: ")
	if text == "" {
		return nil
	}
	warnings := strings.Split(text, "\nWARNING: ")
	for i, w := range warnings {
		lines := strings.Split(strings.TrimRight(w, "\n"), "\n")
		if n := len(lines); n > 2 && strings.HasSuffix(lines[n-2], "|     ") {
			lines = slices.Delete(lines, n-2, n-1)
		}
		warnings[i] = strings.Join(lines, "\n")
	}
	slices.Sort(warnings)
	return warnings
}
