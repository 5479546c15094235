package dockerfile

import (
	"bytes"
	"fmt"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Directive is a line such as "# escape=`" before everything else.
type Directive struct {
	// Name is "syntax", "escape" or "check".
	Name  string
	Value string
	Pos   Position
}

// Directive finds a directive by its name.
func (f *File) Directive(name string) (Directive, bool) {
	for _, d := range f.Directives {
		if d.Name == name {
			return d, true
		}
	}
	return Directive{}, false
}

// parseDirectives reads the directives, with the rules of BuildKit's parser, which meets them again but
// reports a mistake in them one line too early.
func (f *File) parseDirectives(data []byte) error {
	var p parser.DirectiveParser
	for i, l := range f.lines {
		// The parser takes directives that are indented; a shebang is a comment to it.
		d, err := p.ParseLine(bytes.TrimLeft([]byte(l), " \t\r\v\f"))
		if err != nil {
			return f.Error(lineRange(i+1), err)
		}
		if d == nil {
			break
		}
		if d.Name == "escape" && d.Value != "`" && d.Value != `\` {
			return f.Error(lineRange(i+1), fmt.Errorf("invalid escape token '%s' does not match ` or \\", d.Value))
		}
		f.Directives = append(f.Directives, Directive{Name: d.Name, Value: d.Value, Pos: f.Position(lineRange(i + 1))})
	}
	return f.parseCheck(data)
}

// parseCheck reads the configuration of the linter. BuildKit takes the first word of the value.
func (f *File) parseCheck(data []byte) error {
	text, _, at, ok := parser.ParseDirective("check", data)
	if !ok {
		return nil
	}
	c, err := linter.ParseLintOptions(text)
	if err != nil {
		return f.Error(at, fmt.Errorf("parse check options: %w", err))
	}
	f.check = *c
	return nil
}
