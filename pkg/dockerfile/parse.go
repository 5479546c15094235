package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// MaxSize is the largest Dockerfile that Parse takes, in bytes. Real ones hold some hundred lines, generated ones with
// scripts in heredocs some hundred KiB. Parsing takes several times the size of the text in memory, and a
// build must stay far below 100 MiB in all.
const MaxSize = 1 << 20

// File is a parsed Dockerfile. It does not change after Parse and may be used by several goroutines.
type File struct {
	// Name is the name as the user gave it. It stands in every position.
	Name string
	// Escape is the character that escapes and that continues lines: a backslash or, by directive, a backquote.
	Escape rune
	// Directives are those at the top of the file, in their order.
	Directives []Directive
	// Findings are what the linter has to say about single instructions; see Instructions for the rest.
	Findings []Finding

	data     []byte
	lines    []string
	ast      *parser.Node
	warnings []parser.Warning
	check    linter.Config
	broken   error // what keeps the file from being taken apart
}

// Parse reads a Dockerfile in the language of docker/dockerfile 1.26. name is only for messages. data begins with a byte
// order mark or not; lines end in LF or CRLF. Every error is an *Error.
//
// There is a file besides an error, too: Instructions gives the error again, after what the linter had to say before.
func Parse(name string, data []byte) (*File, error) {
	f := &File{Name: name, data: data, lines: splitLines(data)}
	if f.broken = f.read(data); f.broken != nil {
		return f, f.broken
	}
	l := f.Linter(func(found Finding) { f.Findings = append(f.Findings, found) })
	_, _, err := f.Instructions(l)
	return f, err
}

// read reads what comes before single instructions are looked at.
func (f *File) read(data []byte) error {
	if err := f.checkLimits(data); err != nil {
		return err
	}
	if err := f.parseDirectives(data); err != nil {
		return err
	}
	res, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return f.locate(err)
	}
	f.ast, f.Escape, f.warnings = res.AST, res.EscapeToken, res.Warnings
	return nil
}

// Instructions gives the stages, one at least, and the ARG instructions before the first one. Each call makes new values, which
// the caller may change: expansion of variables happens in place. Findings about them go to l, which may be nil.
func (f *File) Instructions(l *linter.Linter) ([]instructions.Stage, []instructions.ArgCommand, error) {
	if f.broken != nil {
		return nil, nil, f.broken
	}
	if l == nil {
		l = f.silent()
	}
	f.lintWarnings(l)
	stages, args, err := instructions.Parse(f.ast, l)
	if err != nil {
		return nil, nil, f.locate(err)
	}
	if len(stages) == 0 {
		return nil, nil, f.Error(lineRange(len(f.lines)), errors.New("dockerfile contains no stages to build"))
	}
	return stages, args, nil
}

// Trigger parses an instruction that stood behind ONBUILD, in this file or in that of a base image. It and its errors get
// the position at, which is that of the FROM that pulls the trigger.
func (f *File) Trigger(text string, at []parser.Range) (instructions.Command, error) {
	fail := func(err error) error {
		return f.Error(at, fmt.Errorf("parse onbuild trigger %q: %w", shorten(text), err))
	}
	if err := checkLines(splitLines([]byte(text))); err != nil {
		return nil, fail(err)
	}
	res, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, fail(cause(err))
	}
	if len(res.AST.Children) != 1 {
		return nil, fail(errors.New("onbuild trigger should be a single expression"))
	}
	node := res.AST.Children[0]
	pos := f.Position(at)
	node.StartLine, node.EndLine = pos.Line, max(pos.Line, pos.EndLine)
	v, err := instructions.ParseInstructionWithLinter(node, f.silent())
	if err != nil {
		return nil, fail(cause(err))
	}
	c, ok := v.(instructions.Command)
	if !ok {
		return nil, fail(fmt.Errorf("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(node.Value)))
	}
	return c, nil
}

// Position turns the line ranges of BuildKit's parser into the first and the last line.
func (f *File) Position(at []parser.Range) Position {
	p := Position{File: f.Name}
	for _, r := range at {
		if p.Line == 0 || r.Start.Line < p.Line {
			p.Line = r.Start.Line
		}
		p.EndLine = max(p.EndLine, r.End.Line)
	}
	return p
}

// Line is the text of a line, counted from 1, without its end; it is empty outside of the file.
func (f *File) Line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return f.lines[n-1]
}

// Data is the file as it was given to Parse.
func (f *File) Data() []byte { return f.data }

// Lines is how many lines the file has.
func (f *File) Lines() int { return len(f.lines) }

// Error positions err. An error that has a position already keeps it, and nil stays nil.
func (f *File) Error(at []parser.Range, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	pos := f.Position(at)
	return &Error{Pos: pos, Err: err, Excerpt: f.Excerpt(pos)}
}

// locate positions an error of BuildKit's parser by what it says of its place.
func (f *File) locate(err error) error {
	var at []parser.Range
	if le, ok := errors.AsType[*parser.LocationError](err); ok && len(le.Locations) > 0 {
		at = le.Locations[0]
	}
	if len(at) == 0 || at[0].Start.Line == 0 {
		at = lineRange(1)
	}
	return f.Error(at, cause(err))
}

// cause is err without the wrappers that say a second time where it happened.
func cause(err error) error {
	if le, ok := errors.AsType[*parser.LocationError](err); ok && le.Unwrap() != nil {
		return le.Unwrap()
	}
	return err
}

func lineRange(n int) []parser.Range {
	n = max(n, 1)
	return []parser.Range{{Start: parser.Position{Line: n}, End: parser.Position{Line: n}}}
}

func splitLines(data []byte) []string {
	s := strings.TrimPrefix(string(data), "\uFEFF")
	lines := strings.Split(s, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(l, "\r")
	}
	return lines
}

// shorten cuts a line for a message.
func shorten(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
