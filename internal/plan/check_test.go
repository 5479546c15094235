package plan

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// TestChecks holds each rule to cases that it finds and to cases that it must not find. A file in testdata/checks is about one
// rule; each folder in it is a case: a Dockerfile, an ignore file, options of the command line, and what
// is found, as "line rule: text", or the error, as "error line: text". The integration tests compare the same cases
// with BuildKit.
func TestChecks(t *testing.T) {
	files, err := filepath.Glob("testdata/checks/*.txtar")
	if err != nil || len(files) < 22 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, file := range files {
		rule := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for name, parts := range readCases(t, file) {
			t.Run(rule+"/"+name, func(t *testing.T) { testCheck(t, parts) })
		}
	}
}

// readCases reads the folders of an archive.
func readCases(t *testing.T, file string) map[string]map[string]string {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]map[string]string{}
	for _, f := range a.Files {
		name, part, _ := strings.Cut(f.Name, "/")
		if cases[name] == nil {
			cases[name] = map[string]string{}
		}
		cases[name][part] = strings.NewReplacer("{{base}}", "base", "{{arm64}}", "arm64").Replace(string(f.Data))
	}
	return cases
}

func caseOptions(t *testing.T, parts map[string]string) Options {
	t.Helper()
	o := Options{BuildArgs: map[string]string{}, BuildPlatform: amd64, Bases: checkedBases{}}
	for line := range strings.Lines(parts["options"]) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
		case "target":
			o.Target = value
		case "build-arg":
			key, v, _ := strings.Cut(value, "=")
			o.BuildArgs[key] = v
		default:
			t.Fatalf("unknown option %q", line)
		}
	}
	return o
}

func testCheck(t *testing.T, parts map[string]string) {
	o := caseOptions(t, parts)
	for line := range strings.Lines(parts[".dockerignore"]) {
		o.Ignore = append(o.Ignore, strings.TrimSpace(line))
	}
	f, _ := dockerfile.Parse("Dockerfile", []byte(parts["Dockerfile"]))
	r, err := Check(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parts["want"], findings(r)); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

// findings is r as the cases have it.
func findings(r *Report) string {
	var b strings.Builder
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "%d %s: %s\n", w.Pos.Line, w.Rule, w.Text)
	}
	if e, ok := errors.AsType[*dockerfile.Error](r.Err); ok {
		fmt.Fprintf(&b, "error %d: %v\n", e.Pos.Line, e.Err)
	} else if r.Err != nil {
		fmt.Fprintf(&b, "error: %v\n", r.Err)
	}
	return b.String()
}

// checkedBases has two images.
type checkedBases struct{}

func (checkedBases) Base(_ context.Context, ref string, _ v1.Platform) (Base, error) {
	switch {
	case strings.HasSuffix(ref, "/base:latest"):
		return Base{Config: []byte(baseConfig)}, nil
	case strings.HasSuffix(ref, "/arm64:latest"):
		return Base{Config: []byte(strings.Replace(baseConfig, "amd64", "arm64", 1))}, nil
	}
	return Base{}, errMissing
}
