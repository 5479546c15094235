package solve

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// TestKeysDoNotCollide holds pairs that differ only in where a byte stands.
func TestKeysDoNotCollide(t *testing.T) {
	amd64 := &plan.Step{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}}
	run := func(step *plan.Step, op plan.Run) cache.Key { return runKey(byDefinition, "base", "", step, op) }
	file := func(name, data string) []plan.InlineFile { return []plan.InlineFile{{Name: name, Data: data}} }
	copies := func(base, files string, op plan.Copy) cache.Key { return copyKey(byDefinition, base, files, op) }
	src := func(paths ...string) (s []plan.Source) {
		for _, p := range paths {
			s = append(s, plan.Source{Path: p})
		}
		return s
	}
	for name, pair := range map[string][2]cache.Key{
		"word-boundary": {
			run(amd64, plan.Run{Args: []string{"a b"}}),
			run(amd64, plan.Run{Args: []string{"a", "b"}}),
		},
		"argument-becomes-environment": {
			run(amd64, plan.Run{Args: []string{"a"}, Env: []string{"B=1"}}),
			run(amd64, plan.Run{Args: []string{"a", "B=1"}}),
		},
		"dir-becomes-user": {run(amd64, plan.Run{Dir: "x"}), run(amd64, plan.Run{User: "x"})},
		"platform": {
			run(amd64, plan.Run{}),
			run(&plan.Step{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}}, plan.Run{}),
		},
		"variant": {
			run(&plan.Step{Platform: v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}}, plan.Run{}),
			run(&plan.Step{Platform: v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}}, plan.Run{}),
		},
		"heredoc-name-into-body": {
			run(amd64, plan.Run{Files: file("ab", "c")}),
			run(amd64, plan.Run{Files: file("a", "bc")}),
		},
		"network": {run(amd64, plan.Run{}), run(amd64, plan.Run{Network: "none"})},
		"definition-is-not-content": {
			runKey(byDefinition, "sha256:00", "", amd64, plan.Run{}),
			runKey(byContent, "sha256:00", "", amd64, plan.Run{}),
		},
		"copied-files":          {copies("b", "one", plan.Copy{}), copies("b", "two", plan.Copy{})},
		"base-of-copy":          {copies("b", "one", plan.Copy{}), copies("c", "one", plan.Copy{})},
		"sources":               {copies("b", "f", plan.Copy{Sources: src("a", "b")}), copies("b", "f", plan.Copy{Sources: src("ab")})},
		"chown-becomes-chmod":   {copies("b", "f", plan.Copy{Chown: "1"}), copies("b", "f", plan.Copy{Chmod: "1"})},
		"unpack":                {copies("b", "f", plan.Copy{Sources: []plan.Source{{Path: "a", Unpack: true}}}), copies("b", "f", plan.Copy{Sources: src("a")})},
		"insecure":              {run(amd64, plan.Run{}), run(amd64, plan.Run{Insecure: true})},
		"device":                {run(amd64, plan.Run{}), run(amd64, plan.Run{Devices: []plan.Device{{Name: "a/b=c"}}})},
		"hostname-into-network": {run(amd64, plan.Run{Hostname: "none"}), run(amd64, plan.Run{Network: "none"})},
	} {
		if pair[0] == pair[1] {
			t.Errorf("%s: different steps have one key", name)
		}
	}
}

func TestLinkedCopyIsIndependentOfItsBase(t *testing.T) {
	op := plan.Copy{Link: true, Dest: "/x"}
	if copyKey(byDefinition, "one", "files", op) != copyKey(byContent, "two", "files", op) {
		t.Error("the key of a linked copy depends on what is below it")
	}
}

func TestProxyIsNoInput(t *testing.T) {
	step := &plan.Step{}
	if runKey(byDefinition, "b", "", step, plan.Run{Proxies: []string{"http_proxy=x"}}) != runKey(byDefinition, "b", "", step, plan.Run{}) {
		t.Error("a proxy is part of the key")
	}
}
