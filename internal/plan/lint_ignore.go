package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/patternmatcher"
)

// ignored tells which files of the context the ignore file leaves out. Nil leaves out none.
type ignored struct {
	matcher *patternmatcher.PatternMatcher
}

// newIgnored returns nil also for patterns with exceptions: a directory that is left out may hold files that are not, and
// only the context itself tells.
func newIgnored(patterns []string) (*ignored, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("parse ignore patterns: %w", err)
	}
	if m.Exclusions() {
		return nil, nil
	}
	return &ignored{m}, nil
}

// match tells whether name, a clean path or pattern, is left out. The root is when everything in it is.
func (i *ignored) match(name string) bool {
	if (name == "." || name == "/") && !i.all() {
		return false
	}
	ok, err := i.matcher.MatchesOrParentMatches(name)
	return err == nil && ok
}

func (i *ignored) all() bool {
	for _, p := range i.matcher.Patterns() {
		switch p.String() {
		case "*", "**", "**/*":
			return true
		}
	}
	return false
}

// lintIgnored reports paths of a COPY or ADD that are not in the context because of its ignore file. sources are what
// the plan made of the paths.
func (k *call) lintIgnored(verb string, paths []string, sources []Source) {
	if k.g.ignored == nil {
		return
	}
	verb = verb[:1] + strings.ToLower(verb[1:])
	for i, src := range paths {
		if sources[i].From != nil {
			continue
		}
		if src = path.Clean(src); k.g.ignored.match(src) {
			k.lint.Run(&linter.RuleCopyIgnoredFile, k.cmd.Location(), linter.RuleCopyIgnoredFile.Format(verb, src))
		}
	}
}
