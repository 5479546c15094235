package dockerfile

import (
	"fmt"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Finding is a remark of BuildKit's linter. It does not stop a build.
type Finding struct {
	// Rule is the name that "# check=skip=" takes.
	Rule        string   `json:"rule"`
	Description string   `json:"description"`
	URL         string   `json:"url,omitempty"`
	Text        string   `json:"text"`
	Pos         Position `json:"position"`
}

func (f Finding) String() string { return fmt.Sprintf("%s: %s: %s", f.Pos, f.Rule, f.Text) }

// Linter is a linter as the file's check directive configures it. Its findings go to report, one after another; the linter
// is not safe for concurrent use.
func (f *File) Linter(report func(Finding)) *linter.Linter {
	return f.LinterWith(f.check, report)
}

// LinterWith is Linter with another configuration, which linter.ParseLintOptions makes of the text of a check directive.
func (f *File) LinterWith(c linter.Config, report func(Finding)) *linter.Linter {
	c.Warn = func(rule, description, url, text string, at []parser.Range) {
		report(Finding{Rule: rule, Description: description, URL: url, Text: text, Pos: f.Position(at)})
	}
	return linter.New(&c)
}

// lintWarnings passes on what the parser, which knows no linter, remarked.
func (f *File) lintWarnings(l *linter.Linter) {
	for _, w := range f.warnings {
		if w.URL != linter.RuleNoEmptyContinuation.URL || w.Location == nil {
			continue
		}
		l.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
	}
}

// silent is a linter that reports nothing. BuildKit's parser takes none as well, but not when a comment above an
// instruction configures it.
func (f *File) silent() *linter.Linter {
	return linter.New(&linter.Config{})
}
