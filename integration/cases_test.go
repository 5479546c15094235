package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gobuild-dev/gobuild/integration/internal/casefile"
	"github.com/gobuild-dev/gobuild/integration/internal/imagediff"
	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// TestCases builds every case with BuildKit and with gobuild, and compares the images.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("cases/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no cases")
	}
	deliberate := differences(t)
	comparer := &imagediff.Comparer{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			c, err := casefile.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range c.Entries() {
				if !deliberate[entry] {
					t.Errorf("%q is no heading in docs/differences.md", entry)
				}
			}
			runCase(t, c, comparer, subjects(c))
		})
	}
}

// differences returns the headings of docs/differences.md.
func differences(t *testing.T) map[string]bool {
	data, err := os.ReadFile(filepath.Join(repository(), "docs", "differences.md"))
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		if h, ok := strings.CutPrefix(line, "## "); ok {
			entries[strings.TrimSpace(h)] = true
		}
	}
	return entries
}

// subject is a way of building that is compared with BuildKit.
type subject struct {
	name  string
	build func(context.Context, *testing.T, parts.Job) error
	// once leaves it at one build: what a second one finds is no other than for the other subjects.
	once bool
}

// subjects are the drivers that a case is built with: one when it runs nothing. They share no work directory, so
// that each does all of the work. When the harness checks itself, the subject is BuildKit without its cache.
func subjects(c *casefile.Case) []subject {
	if *selfCheck {
		return []subject{{name: "buildkit", build: func(ctx context.Context, t *testing.T, j parts.Job) error {
			j.NoCache = true
			return buildkit(t).Build(ctx, j)
		}}}
	}
	drivers := []string{"overlay", "directory"}
	if !c.Runs() {
		drivers = drivers[:1]
	}
	var out []subject
	for _, driver := range drivers {
		work := filepath.Join(world.dir, "work-"+driver)
		out = append(out, subject{name: driver, build: func(ctx context.Context, t *testing.T, j parts.Job) error {
			more, err := j.Gobuild()
			if err != nil {
				return err
			}
			_, err = runGobuildIn(ctx, t, j.Env, append(append(args(j, work), "--isolation", driver), more...)...)
			return err
		}})
	}
	return out
}

// oracle lays a case and has BuildKit build it: once, whatever number of tests have the case.
func oracle(t *testing.T, c *casefile.Case) parts.Job {
	t.Helper()
	return world.oracle(c.Name).get(t, func(ctx context.Context) (parts.Job, error) {
		dir := filepath.Join(world.dir, "cases", c.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return parts.Job{}, err
		}
		job := lay(t, c, dir)
		image := job
		image.Destination = registry(t).Addr + "/cases/" + c.Name + ":oracle"
		err := buildkit(t).Build(ctx, image)
		switch fails := c.Fail != "" || c.Beyond != ""; {
		case fails && err == nil:
			return job, errors.New("BuildKit builds what should fail")
		case !fails && err != nil:
			return job, fmt.Errorf("BuildKit: %w", err)
		}
		return job, nil
	})
}

func runCase(t *testing.T, c *casefile.Case, comparer *imagediff.Comparer, subjects []subject) {
	ctx := t.Context()
	job := oracle(t, c)
	for _, s := range subjects {
		t.Run(s.name, func(t *testing.T) {
			if entry := c.Exceptions[s.name]; entry != "" {
				t.Logf("not compared: docs/differences.md, %q", entry)
				return
			}
			job := job
			job.Destination = registry(t).Addr + "/cases/" + c.Name + ":" + s.name
			if s.name == "overlay" {
				job.CacheTo = registry(t).Addr + "/cases/" + c.Name + "/steps"
			}
			err := s.build(ctx, t, job)
			if c.Fail != "" {
				expectMessage(t, c.Fail, err)
				return
			}
			if c.Refuse != nil && !*selfCheck {
				expectMessage(t, c.Refuse.Text, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Beyond != "" && s.once {
				return
			}
			if c.Beyond != "" {
				sameAgain(ctx, t, s, job)
				return
			}
			compareImages(ctx, t, c, comparer, job.Destination)
			if !*selfCheck && !s.once {
				sameAgain(ctx, t, s, job)
			}
		})
	}
}

// compareImages compares what was pushed to ref with what BuildKit has pushed.
func compareImages(ctx context.Context, t *testing.T, c *casefile.Case, comparer *imagediff.Comparer, ref string) {
	t.Helper()
	oracle := registry(t).Addr + "/cases/" + c.Name + ":oracle"
	o := imagediff.Options{Since: world.since, ExactTimes: c.ExactTimes}
	diffs, err := comparer.Compare(pull(ctx, t, oracle), pull(ctx, t, ref), o)
	if err != nil {
		t.Fatal(err)
	}
	if !*selfCheck {
		diffs = c.Excused(diffs)
	}
	for _, d := range diffs {
		t.Error(d)
	}
}

// sameAgain builds once more, now that all steps are known, and on a machine that has nothing but a cache in a registry,
// and expects the digest of the first time.
func sameAgain(ctx context.Context, t *testing.T, s subject, j parts.Job) {
	t.Helper()
	want, err := pull(ctx, t, j.Destination).Digest()
	if err != nil {
		t.Fatal(err)
	}
	again := func(how string, j parts.Job) {
		t.Helper()
		j.Destination += "-" + how
		if err := s.build(ctx, t, j); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if got, err := pull(ctx, t, j.Destination).Digest(); err != nil || got != want {
			t.Errorf("%s gives %v, %v; the first time gave %v", how, got, err, want)
		}
	}
	if j.CacheTo != "" {
		elsewhere := j
		elsewhere.CacheFrom, elsewhere.CacheTo, elsewhere.WorkDir = j.CacheTo, "", t.TempDir()
		again("elsewhere", elsewhere)
	}
	j.CacheTo = ""
	again("again", j)
}

// args are gobuild's arguments for a job.
func args(j parts.Job, workDir string) []string {
	if j.WorkDir != "" {
		workDir = j.WorkDir
	}
	a := []string{"--context", j.Context, "--dockerfile", filepath.Join(j.Context, j.Dockerfile), "--work-dir", workDir}
	if j.CacheFrom != "" {
		a = append(a, "--cache-from", j.CacheFrom)
	}
	if j.CacheTo != "" {
		a = append(a, "--cache-to", j.CacheTo)
	}
	if j.Destination != "" {
		host, _, _ := strings.Cut(j.Destination, "/")
		a = append(a, "--destination", j.Destination, "--insecure-registry", host)
	} else {
		a = append(a, "--no-push")
	}
	if j.Target != "" {
		a = append(a, "--target", j.Target)
	}
	if j.Platform != "" {
		a = append(a, "--platform", j.Platform)
	}
	for _, v := range j.BuildArgs {
		a = append(a, "--build-arg", v)
	}
	for _, v := range j.Labels {
		a = append(a, "--label", v)
	}
	if j.RewriteTimestamp {
		a = append(a, "--rewrite-timestamp")
	}
	if j.NoCache {
		a = append(a, "--no-cache")
	}
	return a
}

// runGobuild runs the program and returns what it printed. It has a home of its own.
func runGobuild(ctx context.Context, t *testing.T, args ...string) (string, error) {
	return runGobuildIn(ctx, t, nil, args...)
}

// runGobuildIn is runGobuild with more variables in the environment.
func runGobuildIn(ctx context.Context, t *testing.T, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, gobuild(t), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = t.TempDir()
	cmd.Env = append(append(os.Environ(), "HOME="+cmd.Dir), env...)
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("gobuild %s: %w\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

func expectMessage(t *testing.T, text string, err error) {
	t.Helper()
	if err == nil {
		t.Error("gobuild builds what should fail")
	} else if !*selfCheck && !strings.Contains(err.Error(), text) {
		t.Errorf("gobuild's message lacks %q: %v", text, err)
	}
}

// pull opens an image in a registry; its layers are read when they are asked for.
func pull(ctx context.Context, t *testing.T, ref string) v1.Image {
	t.Helper()
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(r, remote.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	return img
}
