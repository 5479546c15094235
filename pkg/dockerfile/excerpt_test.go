package dockerfile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExcerpt(t *testing.T) {
	const rule = "--------------------\n"
	text := "FROM a\nRUN b \\\n  c\n\nRUN d\nRUN e"
	for name, tt := range map[string]struct {
		text string
		pos  Position
		want string
	}{
		"one-line-has-two-around": {text, Position{"D", 3, 3}, "D:3\n" + rule +
			"   1 |     FROM a\n   2 |     RUN b \\\n   3 | >>>   c\n   4 |     \n   5 |     RUN d\n" + rule},
		"several-lines-have-one-around": {text, Position{"D", 2, 3}, "D:2\n" + rule +
			"   1 |     FROM a\n   2 | >>> RUN b \\\n   3 | >>>   c\n   4 |     \n" + rule},
		"first-line": {text, Position{"D", 1, 1}, "D:1\n" + rule +
			"   1 | >>> FROM a\n   2 |     RUN b \\\n   3 |       c\n" + rule},
		"last-line-without-end": {text, Position{"D", 6, 0}, "D:6\n" + rule +
			"   4 |     \n   5 |     RUN d\n   6 | >>> RUN e\n" + rule},
		"unknown-line":       {text, Position{File: "D"}, ""},
		"line-outside":       {text, Position{"D", 7, 7}, ""},
		"end-outside":        {"a\nb", Position{"D", 1, 9}, "D:1\n" + rule + "   1 | >>> a\n   2 | >>> b\n" + rule},
		"control-characters": {"RUN \x1b[2J\ta\u202e\xff", Position{"D\r", 1, 1}, "D�:1\n" + rule + "   1 | >>> RUN �[2J\ta��\n" + rule},
		"long-line":          {strings.Repeat("x", 300), Position{"D", 1, 1}, "D:1\n" + rule + "   1 | >>> " + strings.Repeat("x", 200) + "…\n" + rule},
	} {
		t.Run(name, func(t *testing.T) {
			f := &File{Name: "D", lines: splitLines([]byte(tt.text))}
			if diff := cmp.Diff(tt.want, f.Excerpt(tt.pos).String()); diff != "" {
				t.Errorf("excerpt (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExcerptOfALongInstructionIsBounded(t *testing.T) {
	f := &File{lines: splitLines([]byte(strings.Repeat("x\n", 10_000)))}
	got := f.Excerpt(Position{"D", 10, 9_000}).String()
	if n := strings.Count(got, "\n"); n > maxExcerpt+4 {
		t.Errorf("excerpt has %d lines", n)
	}
	if want := "and 8952 more lines"; !strings.Contains(got, want) {
		t.Errorf("excerpt does not say %q:\n%s", want, got)
	}
}
