package dockerfile

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxExcerpt is how many lines an excerpt shows. Instructions are rarely longer, but for scripts in heredocs.
const maxExcerpt = 40

// Excerpt is the part of a Dockerfile that a message is about, with some lines around it. The zero value shows nothing.
type Excerpt struct {
	// Pos holds the lines that are to blame.
	Pos Position
	// First is the number of the first of Lines.
	First int
	// Lines are the text as it stands in the file, without ends of lines.
	Lines []string
	// Left is how many of the lines at Pos are left out at the end.
	Left int
}

// Excerpt shows p with two lines before and after it, or one when p is several lines itself, as BuildKit's clients do.
func (f *File) Excerpt(p Position) Excerpt {
	if p.Line < 1 || p.Line > len(f.lines) {
		return Excerpt{}
	}
	end, around := min(max(p.Line, p.EndLine), len(f.lines)), 2
	if end > p.Line {
		around = 1
	}
	first, last := max(p.Line-around, 1), min(end+around, len(f.lines))
	left := 0
	if last-first >= maxExcerpt {
		last = first + maxExcerpt - 1
		left = max(end-last, 0)
	}
	return Excerpt{Pos: p, First: first, Lines: f.lines[first-1 : last], Left: left}
}

// String is what is shown: file and line, then the lines with marks at those that are to blame. It ends with a new line, or
// is empty. Long lines are cut, and what would steer a terminal is replaced.
func (e Excerpt) String() string {
	if len(e.Lines) == 0 {
		return ""
	}
	const rule = "--------------------\n"
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s", Printable(e.Pos.String()), rule)
	for i, line := range e.Lines {
		n, mark := e.First+i, "   "
		if n >= e.Pos.Line && n <= max(e.Pos.Line, e.Pos.EndLine) {
			mark = ">>>"
		}
		fmt.Fprintf(&b, " %3d | %s %s\n", n, mark, Printable(shorten(line)))
	}
	if e.Left > 0 {
		fmt.Fprintf(&b, "     | ... and %d more lines\n", e.Left)
	}
	b.WriteString(rule)
	return b.String()
}

// Printable replaces in s what would steer a terminal instead of being shown. Tabs and ends of lines stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}
