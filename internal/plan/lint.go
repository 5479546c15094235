package plan

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"
)

// This file and lint_ignore.go hold the rules of BuildKit's linter that need more than one instruction. Those of single
// instructions are in BuildKit's parser.

// marks are what a stage has set already.
type marks struct {
	// The last instruction of each kind in this stage; nil when there is none.
	cmd, entrypoint, healthcheck []parser.Range
	// workdir: this stage, or the one it begins with, has a WORKDIR.
	workdir bool
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// lintFile looks at names of stages and at the case of instructions.
func (g *graph) lintFile(stages []instructions.Stage) {
	seen := map[string]bool{}
	lower, upper := 0, 0
	count := func(name string) {
		switch name {
		case strings.ToLower(name):
			lower++
		case strings.ToUpper(name):
			upper++
		}
	}
	for _, s := range stages {
		if s.Name == scratch || s.Name == "context" {
			g.lint.Run(&linter.RuleReservedStageName, s.Location, linter.RuleReservedStageName.Format(s.Name))
		}
		if s.Name != "" && seen[s.Name] {
			g.lint.Run(&linter.RuleDuplicateStageName, s.Location, linter.RuleDuplicateStageName.Format(s.Name))
		}
		seen[s.Name] = true
		count(s.OrigCmd)
		for _, c := range s.Commands {
			count(c.Name())
		}
	}
	for _, s := range stages {
		g.lintCase(s.OrigCmd, lower > upper, s.Location)
		for _, c := range s.Commands {
			g.lintCase(c.Name(), lower > upper, c.Location())
		}
	}
}

func (g *graph) lintCase(name string, lower bool, at []parser.Range) {
	right, want := strings.ToUpper(name), "uppercase"
	if lower {
		right, want = strings.ToLower(name), "lowercase"
	}
	if name != right {
		g.lint.Run(&linter.RuleConsistentInstructionCasing, at, linter.RuleConsistentInstructionCasing.Format(name, want))
	}
}

// lintDefaults looks whether bases have a valid name without any build argument. A copy of the arguments is used up.
func (g *graph) lintDefaults(stages []instructions.Stage, args []instructions.ArgCommand) {
	defaults := g.global.clone()
	if addGlobalArgs(defaults, args, nil, g.file, g.expand) != nil {
		return // the same error follows, or a build argument avoids it
	}
	for _, s := range stages {
		res, err := g.expand.word(s.BaseName, defaults)
		if err != nil {
			return
		}
		if strings.HasPrefix(res.Result, ociLayout) {
			continue
		}
		if _, err := reference.ParseNormalizedNamed(res.Result); err != nil {
			g.lint.Run(&linter.RuleInvalidDefaultArgInFrom, s.Location, linter.RuleInvalidDefaultArgInFrom.Format(s.BaseName))
		}
	}
}

// lintFrom looks for variables in FROM that no ARG before it declares.
func (g *graph) lintFrom(l *linter.Linter, s instructions.Stage, res shell.ProcessWordResult) {
	known := append(slices.Clone(g.global.Keys()), g.globalNames...)
	for _, name := range sortedKeys(res.Unmatched) {
		if slices.Contains(known, name) {
			continue
		}
		match, _ := suggest.Search(name, known, true)
		l.Run(&linter.RuleUndefinedArgInFrom, s.Location, linter.RuleUndefinedArgInFrom.Format(name, match))
	}
}

// lintPlatform looks at the value of FROM --platform.
func (g *graph) lintPlatform(l *linter.Linter, s instructions.Stage, res shell.ProcessWordResult) {
	g.lintFrom(l, s, res)
	const name = "TARGETPLATFORM"
	if _, ok := res.Matched[name]; ok && len(res.Matched) == 1 && len(res.Unmatched) == 0 {
		if target, _ := g.global.Get(name); res.Result == target {
			l.Run(&linter.RuleRedundantTargetPlatform, s.Location, linter.RuleRedundantTargetPlatform.Format(s.Platform))
		}
	}
	if len(res.Matched) > 0 || len(res.Unmatched) > 0 {
		return
	}
	p, err := platforms.Parse(res.Result)
	if err != nil || strings.Contains(s.Name, p.OS) || strings.Contains(s.Name, p.Architecture) {
		return
	}
	l.Run(&linter.RuleFromPlatformFlagConstDisallowed, s.Location, linter.RuleFromPlatformFlagConstDisallowed.Format(res.Result))
}

// lintBasePlatform compares the base's platform with the one that was asked for.
func (g *graph) lintBasePlatform(s *stage) {
	want, got := *s.platform, s.from.config.Platform
	if want.OS == got.OS && want.Architecture == got.Architecture {
		return
	}
	g.lint.Run(&linter.RuleInvalidBaseImagePlatform, s.spec.Location, linter.RuleInvalidBaseImagePlatform.Format(
		s.spec.BaseName, formatPlatform(platforms.Normalize(want)), formatPlatform(platforms.Normalize(got))))
}

// lintUndefined reports variables that have not been found and that no ARG declares.
func (k *call) lintUndefined(unmatched map[string]struct{}) {
	for _, name := range sortedKeys(unmatched) {
		declared := slices.ContainsFunc(k.s.args, func(a instructions.KeyValuePairOptional) bool { return a.Key == name })
		if declared || isScanArg(name) {
			continue
		}
		match, _ := suggest.Search(name, k.s.vars.Keys(), true)
		k.lint.Run(&linter.RuleUndefinedVar, k.cmd.Location(), linter.RuleUndefinedVar.Format(name, match))
	}
}

// lintOnce reports the earlier of two instructions of which only the last one counts.
func (k *call) lintOnce(last *[]parser.Range) {
	if *last != nil {
		k.lint.Run(&linter.RuleMultipleInstructionsDisallowed, *last, linter.RuleMultipleInstructionsDisallowed.Format(k.cmd.Name()))
	}
	*last = k.cmd.Location()
}

// lintWorkdir reports a first WORKDIR that depends on that of the base image.
func (k *call) lintWorkdir(c *instructions.WorkdirCommand) {
	if !k.s.marks.workdir && !strings.HasPrefix(c.Path, "/") {
		k.lint.Run(&linter.RuleWorkdirRelativePath, c.Location(), linter.RuleWorkdirRelativePath.Format(c.Path))
	}
	k.s.marks.workdir = true
}

var (
	secretName = regexp.MustCompile(`(?i)(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)`)
	publicName = regexp.MustCompile(`(?i)(?:_|^)(?:public|file|version)(?:_|$)`)
)

// lintSecret reports names that sound like secrets, which ARG and ENV do not keep.
func (k *call) lintSecret(instruction, name string) {
	if secretName.MatchString(name) && !publicName.MatchString(name) {
		k.lint.Run(&linter.RuleSecretsUsedInArgOrEnv, k.cmd.Location(), linter.RuleSecretsUsedInArgOrEnv.Format(instruction, name))
	}
}
