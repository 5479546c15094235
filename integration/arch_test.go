package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gobuild-dev/gobuild/"

// allowed lists what each package may import of this module. A name stands for the package and for what is below it,
// and everything may import what is below itself. A package that is not listed may not exist.
func allowed() map[string][]string {
	leaf := []string{}
	solve := []string{"internal/plan", "pkg/dockerfile", "pkg/cache", "pkg/sandbox", "pkg/snapshot", "pkg/rootfs", "pkg/source",
		"pkg/progress", "internal/fileop"}
	front := append([]string{"internal/solve", "internal/cachemount", "internal/assemble", "pkg/push", "pkg/registry", "pkg/sshagent", "pkg/cdi"}, solve...)
	return map[string][]string{
		"pkg/dockerfile":      leaf,
		"pkg/cache":           leaf,
		"pkg/cache/local":     {"pkg/cache", "pkg/rootfs", "pkg/snapshot"}, // a backend keeps layers and indexes
		"pkg/cache/registry":  {"pkg/cache", "pkg/registry", "pkg/rootfs"},
		"pkg/cache/blob":      {"pkg/cache", "pkg/rootfs", "pkg/snapshot"},
		"pkg/cache/indexes":   {"pkg/cache", "pkg/rootfs"},
		"pkg/cache/inline":    {"pkg/cache"},
		"pkg/rootfs":          leaf,
		"pkg/registry":        leaf,
		"pkg/progress":        leaf,
		"pkg/sshagent":        leaf,
		"pkg/cdi":             leaf,
		"internal/assemble":   leaf,
		"internal/decompress": leaf,
		"pkg/snapshot":        {"pkg/rootfs"},
		"pkg/sandbox":         {"pkg/snapshot", "pkg/rootfs"},
		"pkg/source":          {"pkg/rootfs", "internal/decompress", "internal/gitref"},
		"pkg/push":            {"pkg/registry", "pkg/rootfs"},
		"internal/plan":       {"pkg/dockerfile", "internal/gitref"},
		"internal/gitref":     leaf,
		"internal/fileop":     {"pkg/snapshot", "pkg/rootfs", "internal/decompress"},
		"internal/cachemount": {"pkg/cache", "pkg/sandbox", "pkg/snapshot", "pkg/rootfs"},
		"internal/solve":      append(solve, "internal/assemble"),
		"pkg/build":           front,
		"cmd/gobuild":         append(front, "pkg/build"),
		"cmd/gobuild-step":    {"pkg/sandbox"},
		"integration":         leaf, // it knows the program by its command line alone
	}
}

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath, Doc           string
	GoFiles, Imports          []string
	TestImports, XTestImports []string
}

func packages(t *testing.T) []goPackage {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = repository()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		pkgs = append(pkgs, p)
	}
}

// under says whether a package is dir or below it.
func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// owner returns the closest entry of table that pkg belongs to.
func owner(table map[string][]string, pkg string) string {
	closest := ""
	for dir := range table {
		if under(pkg, dir) && len(dir) > len(closest) {
			closest = dir
		}
	}
	return closest
}

func TestImportsPointDownwards(t *testing.T) {
	table := allowed()
	for _, p := range packages(t) {
		dir := owner(table, p.ImportPath)
		if dir == "" {
			t.Errorf("%s: say in allowed what it may import", p.ImportPath)
			continue
		}
		// Tests, and packages for tests, may look upwards for fixtures, but not at the front door.
		forTests := strings.HasSuffix(p.ImportPath, "test")
		for _, imp := range p.Imports {
			imp, ok := strings.CutPrefix(imp, module)
			if !ok || under(imp, dir) || forTests {
				continue
			}
			if !slices.ContainsFunc(table[dir], func(a string) bool { return under(imp, a) }) {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
			if strings.HasSuffix(imp, "test") {
				t.Errorf("%s imports %s, which is for tests", p.ImportPath, imp)
			}
		}
	}
}

// TestSolveKnowsNoBackend holds that scheduling is written against interfaces alone.
func TestSolveKnowsNoBackend(t *testing.T) {
	for _, p := range packages(t) {
		if !under(p.ImportPath, "internal/solve") {
			continue
		}
		for _, imp := range p.Imports {
			for _, interfaces := range []string{"pkg/cache", "pkg/sandbox"} {
				if imp, ok := strings.CutPrefix(imp, module); ok && strings.HasPrefix(imp, interfaces+"/") {
					t.Errorf("%s imports %s", p.ImportPath, imp)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		for _, word := range []string{"util", "utils", "common", "helpers", "types", "misc"} {
			if slices.Contains(strings.Split(p.ImportPath, "/"), word) {
				t.Errorf("%s is named after no idea", p.ImportPath)
			}
		}
	}
}

// TestEmbeddersCarryNoCloud holds that a program that imports the front door does not carry the client
// libraries of clouds.
func TestEmbeddersCarryNoCloud(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./pkg/build", "./pkg/cache/blob", "./pkg/cache/blob/dir", "./pkg/registry/auth")
	cmd.Dir = repository()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		for _, heavy := range []string{"github.com/minio/", "github.com/Azure/", "github.com/aws/", "golang.org/x/oauth2"} {
			if strings.HasPrefix(dep, heavy) {
				t.Errorf("pkg/build depends on %s", strings.TrimSpace(dep))
			}
		}
	}
}
