package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

var update = flag.Bool("update", false, "write what is planned into testdata")

// TestGolden plans the cases in testdata. A case holds a Dockerfile, optionally options, one on each line as on the
// command line, and "base REF" files with configs of base images; and what is expected: plan.txt and plan.json, or error.txt.
// The images in plan.json have been compared with those that BuildKit builds.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d cases: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testGolden(t, file)
		})
	}
}

func testGolden(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := readCase(t, a)
	got := c.plan(t)
	if *update {
		a.Files = c.inputs
		for _, name := range []string{"error.txt", "plan.txt", "plan.json"} {
			if s, ok := got[name]; ok {
				a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(s)})
			}
		}
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(c.want, got); diff != "" {
		t.Errorf("plan differs (-want +got; -update accepts it):\n%s", diff)
	}
}

// goldenCase is a case file taken apart.
type goldenCase struct {
	inputs     []txtar.File
	dockerfile []byte
	options    Options
	want       map[string]string
}

func readCase(t *testing.T, a *txtar.Archive) goldenCase {
	t.Helper()
	bases := fakeBases{}
	c := goldenCase{want: map[string]string{}}
	c.options = Options{BuildArgs: map[string]string{}, Labels: map[string]string{}, Bases: bases}
	c.options.BuildPlatform = v1.Platform{OS: "linux", Architecture: "amd64"}
	for _, f := range a.Files {
		kind, ref, _ := strings.Cut(f.Name, " ")
		switch kind {
		case "Dockerfile":
			c.dockerfile = f.Data
		case "options":
			readOptions(t, &c.options, string(f.Data))
		case "base":
			bases[ref] = string(f.Data)
		default:
			c.want[f.Name] = string(f.Data)
			continue
		}
		c.inputs = append(c.inputs, f)
	}
	return c
}

func readOptions(t *testing.T, o *Options, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		key, v, _ := strings.Cut(value, "=")
		switch name {
		case "--build-arg":
			o.BuildArgs[key] = v
		case "--label":
			o.Labels[key] = v
		case "--target":
			o.Target = value
		case "--platform":
			p, err := v1.ParsePlatform(value)
			if err != nil {
				t.Fatal(err)
			}
			o.Platforms = append(o.Platforms, *p)
		default:
			t.Fatalf("unknown option %q", line)
		}
	}
}

// plan gives the files that the case should hold.
func (c goldenCase) plan(t *testing.T) map[string]string {
	t.Helper()
	got := map[string]string{}
	f, err := dockerfile.Parse("Dockerfile", c.dockerfile)
	var p *Plan
	if err == nil {
		p, err = New(context.Background(), f, c.options)
	}
	if err != nil {
		got["error.txt"] = err.Error() + "\n"
		return got
	}
	var text, indented bytes.Buffer
	if err := p.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	got["plan.txt"] = text.String()
	enc := json.NewEncoder(&indented)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		t.Fatal(err)
	}
	got["plan.json"] = indented.String()
	return got
}

// fakeBases are configs by reference. One for a single platform has that behind the reference.
type fakeBases map[string]string

func (b fakeBases) Base(_ context.Context, ref string, p v1.Platform) (Base, error) {
	config, ok := b[ref+" "+p.String()]
	if !ok {
		config, ok = b[ref]
	}
	if !ok {
		return Base{}, fmt.Errorf("image %s for %s not found", ref, p)
	}
	digest, _, err := v1.SHA256(strings.NewReader(config))
	return Base{Digest: digest, Config: []byte(config)}, err
}
