package build_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

// context makes a build context of files by name.
func context(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuildAsALibrary(t *testing.T) {
	src := context(t, map[string]string{
		"Dockerfile": "FROM scratch\nCOPY f /data/\nENV A=b\nCMD [\"/data/f\"]\n",
		"f":          "hello",
	})
	out := filepath.Join(t.TempDir(), "out")
	o := build.Options{
		Context: src, WorkDir: t.TempDir(),
		Labels:  map[string]string{"l": "v"},
		Outputs: []push.Output{{Type: push.OutputOCI, Dest: out, Directory: true}},
	}
	first, err := build.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(out)
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(first.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	config, err := img.ConfigFile()
	if err != nil || config.Config.Labels["l"] != "v" || len(config.Config.Cmd) != 1 {
		t.Errorf("config %+v, %v", config, err)
	}
	second, err := build.Build(t.Context(), o)
	if err != nil || second.Digest != first.Digest {
		t.Errorf("second build: digest %v, %v; want that of the first, %v", second.Digest, err, first.Digest)
	}
}

// TestEpochFixesTheDigest builds in two work directories, that is on two machines, at two times.
func TestEpochFixesTheDigest(t *testing.T) {
	src := context(t, map[string]string{"Dockerfile": "FROM scratch\nWORKDIR /made/here\nCOPY <<EOF /f\nx\nEOF\n"})
	var digests [2]v1.Hash
	for i := range digests {
		r, err := build.Build(t.Context(), build.Options{Context: src, WorkDir: t.TempDir(), Epoch: time.Unix(1_600_000_000, 0)})
		if err != nil {
			t.Fatal(err)
		}
		digests[i] = r.Digest
		time.Sleep(1100 * time.Millisecond)
	}
	if digests[0] != digests[1] {
		t.Errorf("digests %v and %v", digests[0], digests[1])
	}
}

func TestErrorsAreTyped(t *testing.T) {
	src := context(t, map[string]string{"Dockerfile": "FROM scratch\nNONSENSE\n"})
	_, err := build.Build(t.Context(), build.Options{Context: src, WorkDir: t.TempDir()})
	var at *dockerfile.Error
	if !errors.As(err, &at) || at.Pos.Line != 2 {
		t.Errorf("error %v is not one of line 2", err)
	}
	src = context(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY missing /\n"})
	_, err = build.Build(t.Context(), build.Options{Context: src, WorkDir: t.TempDir()})
	var step *build.StepError
	if !errors.As(err, &step) || step.Step.Source.Line != 2 {
		t.Errorf("error %v is not one of the step in line 2", err)
	}
	if _, err := build.Build(t.Context(), build.Options{Context: src, Isolation: "prayer"}); err == nil {
		t.Error("an unknown isolation was taken")
	}
}
