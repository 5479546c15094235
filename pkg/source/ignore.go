package source

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// ignored is a parsed ignore file. The zero value ignores nothing.
type ignored struct {
	patterns []string
	matcher  *patternmatcher.PatternMatcher // nil without patterns
}

// IgnoreError is a malformed pattern of an ignore file.
type IgnoreError struct {
	File    string
	Line    int // from 1
	Pattern string
	Err     error
}

func (e *IgnoreError) Error() string {
	return fmt.Sprintf("%s:%d: invalid pattern %q: %v", e.File, e.Line, e.Pattern, e.Err)
}

func (e *IgnoreError) Unwrap() error { return e.Err }

// readIgnore reads the ignore file at own, or else the context's. An unreadable one is an error: ignoring
// it could put into the image what its author kept out.
func readIgnore(in *reader, own place) (ignored, error) {
	for _, p := range []place{own, {inside: true, name: ignoreSuffix, shown: ignoreSuffix}} {
		b, err := in.read(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return ignored{}, fmt.Errorf("read ignore file: %w", err)
		}
		return parseIgnore(p.shown, b)
	}
	return ignored{}, nil
}

// parseIgnore parses the ignore file b, called file in errors.
func parseIgnore(file string, b []byte) (ignored, error) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(b))
	if err != nil {
		return ignored{}, fmt.Errorf("read ignore file %q: %w", file, err)
	}
	if len(patterns) == 0 {
		return ignored{}, nil
	}
	for _, p := range patterns {
		if err := check(p); err != nil {
			return ignored{}, &IgnoreError{file, lineOf(b, p), p, err}
		}
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return ignored{}, fmt.Errorf("parse ignore file %q: %w", file, err)
	}
	if len(m.Patterns()) == 0 {
		return ignored{}, nil
	}
	return ignored{patterns: patterns, matcher: m}, nil
}

// check reports what is wrong with a pattern, also what a matcher would find only when it
// gets to use it.
func check(pattern string) error {
	if pattern == "!" {
		return errors.New("nothing follows the \"!\"")
	}
	m, err := patternmatcher.New([]string{pattern})
	if err != nil {
		return err
	}
	// An exception is only looked at when something is ignored before it.
	if m.Exclusions() {
		if m, err = patternmatcher.New([]string{pattern[1:]}); err != nil {
			return err
		}
	}
	_, err = m.MatchesOrParentMatches("x")
	return err
}

// lineOf returns the number of the first line that is read as pattern.
func lineOf(b []byte, pattern string) int {
	n := 0
	for line := range bytes.Lines(b) {
		n++
		got, err := ignorefile.ReadAll(bytes.NewReader(line))
		if err == nil && len(got) == 1 && got[0] == pattern {
			break
		}
	}
	return n
}
