package dockerfile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Each mistake is found on its line and shown with it.
var mistakes = map[string]struct{ data, want, text string }{
	"empty-file":               {"", "Dockerfile:1: file with no instructions", ""},
	"only-comments":            {"# a\n\n# b\n", "Dockerfile:3: file with no instructions", "# b"},
	"no-stage":                 {"ARG A=1\nARG B\n", "Dockerfile:2: dockerfile contains no stages to build", "ARG B"},
	"instruction-before-from":  {"\nRUN x\nFROM a\n", "Dockerfile:2: no build stage in current context", "RUN x"},
	"unknown-instruction":      {"FROM a\nRUUN x\n", "Dockerfile:2: unknown instruction: RUUN (did you mean RUN?)", "RUUN x"},
	"unknown-flag":             {"FROM a\nCOPY --form=x a b\n", "Dockerfile:2: unknown flag: --form (did you mean from?)", "COPY --form=x a b"},
	"unknown-flag-continued":   {"FROM a\nRUN \\\n  --mont=type=cache \\\n  x\n", "Dockerfile:2: unknown flag: --mont (did you mean mount?)", `RUN \`},
	"duplicate-flag":           {"FROM a\nCOPY --chown=1 --chown=2 a b\n", "Dockerfile:2: duplicate flag specified: --chown", "COPY --chown=1 --chown=2 a b"},
	"bool-flag":                {"FROM a\nCOPY --link=maybe a b\n", "Dockerfile:2: expecting boolean value for flag --link, not: maybe", "COPY --link=maybe a b"},
	"unterminated-heredoc":     {"FROM a\nRUN <<EOF\nx\n", "Dockerfile:2: unterminated heredoc", "RUN <<EOF"},
	"heredoc-as-destination":   {"FROM a\nCOPY a <<EOF\nEOF\n", "Dockerfile:2: COPY cannot accept a heredoc as a destination", "COPY a <<EOF"},
	"nested-json":              {"FROM a\nCMD [\"a\", [\"b\"]]\n", "Dockerfile:2: when using JSON array syntax, arrays must be comprised of strings only", `CMD ["a", ["b"]]`},
	"bad-stage-name":           {"FROM a AS 1b\n", `Dockerfile:1: invalid name for build stage: "1b", name can't start with a number or contain symbols`, "FROM a AS 1b"},
	"from-arguments":           {"FROM a b\n", "Dockerfile:1: FROM requires either one or three arguments", "FROM a b"},
	"crlf":                     {"FROM a\r\nCOPY x\r\n", "Dockerfile:2: COPY requires at least two arguments, but only one was provided. Destination could not be determined", "COPY x"},
	"bom":                      {"\ufeffFORM a\n", "Dockerfile:1: unknown instruction: FORM (did you mean FROM?)", "FORM a"},
	"escape-directive":         {"# syntax=x\n# escape=x\nFROM a\n", "Dockerfile:2: invalid escape token 'x' does not match ` or \\", "# escape=x"},
	"duplicate-directive":      {"\ufeff# escape=`\n # escape=`\nFROM a\n", "Dockerfile:2: only one escape parser directive can be used", " # escape=`"},
	"check-directive":          {"# check=sikp=all\nFROM a\n", `Dockerfile:1: parse check options: invalid check option "sikp"`, "# check=sikp=all"},
	"onbuild-onbuild":          {"FROM a\nONBUILD ONBUILD RUN x\n", "Dockerfile:2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", "ONBUILD ONBUILD RUN x"},
	"onbuild-from":             {"FROM a\nONBUILD FROM x\n", "Dockerfile:2: FROM isn't allowed as an ONBUILD trigger", "ONBUILD FROM x"},
	"healthcheck-interval":     {"FROM a\nHEALTHCHECK --interval=1us CMD x\n", `Dockerfile:2: Interval "interval" cannot be less than 1ms`, "HEALTHCHECK --interval=1us CMD x"},
	"shell-not-json":           {"FROM a\nSHELL bash\n", "Dockerfile:2: SHELL requires the arguments to be in JSON form", "SHELL bash"},
	"continued-at-end-of-file": {"FROM a\nCOPY x \\", "Dockerfile:2: COPY requires at least two arguments, but only one was provided. Destination could not be determined", `COPY x \`},
	"long-line": {
		"FROM a\nRUN <<E\n" + strings.Repeat("x", maxLine+1) + "\nE\n",
		"Dockerfile:3: dockerfile line greater than max allowed size of 65535", strings.Repeat("x", 200) + "…",
	},
	"nul-and-binary": {"\x00\xff\xfe\n", "Dockerfile:1: unknown instruction: \x00\xff\xfe", "\x00\xff\xfe"},
	"too-large": {
		"FROM a\n" + strings.Repeat("# comment\n", MaxSize/10),
		fmt.Sprintf("Dockerfile:1: dockerfile of %d bytes is larger than the limit of %d", MaxSize+7-MaxSize%10, MaxSize), "FROM a",
	},
	"deep-substitution": {
		"FROM a\nRUN <<E " + strings.Repeat("${a:-\\\n", 3000) + "\nE\n",
		"Dockerfile:2002: more than 2000 nested expressions in one instruction", `${a:-\`,
	},
	"deep-onbuild": {
		"FROM a\n" + strings.Repeat("ONBUILD \\\n", 3000) + "RUN x\n",
		"Dockerfile:2002: more than 2000 nested expressions in one instruction", `ONBUILD \`,
	},
}

func TestParseMistakes(t *testing.T) {
	for name, tt := range mistakes {
		t.Run(name, func(t *testing.T) {
			f, err := Parse("Dockerfile", []byte(tt.data))
			if _, _, again := f.Instructions(nil); again == nil || again.Error() != err.Error() {
				t.Errorf("a second time the error is %v, not %v", again, err)
			}
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error is %T, want *Error: %v", err, err)
			}
			if e.Error() != tt.want {
				t.Errorf("error is\n%s\nwant\n%s", e, tt.want)
			}
			if tt.text != "" && !strings.Contains(e.Excerpt.String(), ">>> "+Printable(tt.text)+"\n") {
				t.Errorf("excerpt does not mark %q:\n%s", tt.text, e.Excerpt)
			}
		})
	}
}

// What looks odd and is legal.
func TestParseOddities(t *testing.T) {
	for name, data := range map[string]string{
		"bom-and-crlf":         "\ufeff# escape=`\r\nFROM a\r\nRUN x `\r\n  y\r\n",
		"lower-case":           "from a as B\nrun x\n",
		"longest-line":         "FROM a\nRUN " + strings.Repeat("x", maxLine-4) + "\n",
		"longest-line-at-end":  "FROM a\nRUN " + strings.Repeat("x", maxLine-4),
		"invalid-json-is-text": "FROM a\nCMD [\"a\", 'b']\n",
		"shebang":              "#!/usr/bin/env builder\nFROM a\n",
		"check-for-one":        "FROM a\n# check=skip=all\nMAINTAINER x\n",
		"many-substitutions":   "FROM a\n" + strings.Repeat("ENV a=${b}\n", 3000),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse("Dockerfile", []byte(data)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDirectives(t *testing.T) {
	f := mustParse(t, "# syntax=docker/dockerfile:1\n# ESCAPE = `\n# check=skip=all\n# other=1\n# escape=x\nFROM a\n")
	want := []Directive{
		{"syntax", "docker/dockerfile:1", Position{"Dockerfile", 1, 1}},
		{"escape", "`", Position{"Dockerfile", 2, 2}},
		{"check", "skip=all", Position{"Dockerfile", 3, 3}},
	}
	if diff := cmp.Diff(want, f.Directives); diff != "" {
		t.Errorf("directives (-want +got):\n%s", diff)
	}
	if f.Escape != '`' {
		t.Errorf("escape is %q", f.Escape)
	}
	if _, ok := f.Directive("other"); ok {
		t.Error("an unknown directive is not a comment")
	}
}

func TestFindings(t *testing.T) {
	f := mustParse(t, "# check=skip=StageNameCasing\nFROM a AS B\nRUN x \\\n\n y\n# check=skip=all\nMAINTAINER x\nMAINTAINER y\n")
	var got []string
	for _, found := range f.Findings {
		got = append(got, found.String())
	}
	want := []string{
		"Dockerfile:5: NoEmptyContinuation: Empty continuation line",
		"Dockerfile:8: MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestFindingsBeforeAMistake(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("FROM a AS B\nBOGUS\n"))
	if err == nil || f == nil {
		t.Fatalf("got %v, %v", f, err)
	}
	if len(f.Findings) != 1 || f.Findings[0].Rule != "StageNameCasing" {
		t.Errorf("findings are %v", f.Findings)
	}
}

// Expansion happens in place, so that each plan needs instructions of its own.
func TestInstructionsAreFresh(t *testing.T) {
	f := mustParse(t, "FROM a\nEXPOSE 2 1\nENV A=$B\n")
	change := func() string {
		stages, _, err := f.Instructions(nil)
		if err != nil {
			t.Fatal(err)
		}
		c := stages[0].Commands[1].(*instructions.EnvCommand)
		was := c.Env[0].Value
		if err := c.Expand(func(string) (string, error) { return "changed", nil }); err != nil {
			t.Fatal(err)
		}
		return was
	}
	change()
	if got := change(); got != "$B" {
		t.Errorf("instructions of a second call have been changed by the first: %q", got)
	}
}

func TestTrigger(t *testing.T) {
	f := mustParse(t, "FROM a\n\nFROM b\n")
	stages, _, err := f.Instructions(nil)
	if err != nil {
		t.Fatal(err)
	}
	at := stages[1].Location
	for text, want := range map[string]string{
		"RUN x":                       "",
		"COPY <<E /\nbody\nE":         "",
		"# check=skip=all\nRUN x":     "", // BuildKit's own parser panics when it has no linter
		"RUN x\nRUN y":                `Dockerfile:3: parse onbuild trigger "RUN x\nRUN y": onbuild trigger should be a single expression`,
		"FROM x":                      `Dockerfile:3: parse onbuild trigger "FROM x": FROM isn't allowed as an ONBUILD trigger`,
		"":                            `Dockerfile:3: parse onbuild trigger "": file with no instructions`,
		"BOGUS":                       `Dockerfile:3: parse onbuild trigger "BOGUS": unknown instruction: BOGUS`,
		"RUN <<E":                     `Dockerfile:3: parse onbuild trigger "RUN <<E": unterminated heredoc`,
		"# escape=x\nRUN y":           "Dockerfile:3: parse onbuild trigger \"# escape=x\\nRUN y\": invalid escape token 'x' does not match ` or \\",
		strings.Repeat("ONBUILD ", 1): `Dockerfile:3: parse onbuild trigger "ONBUILD ": ONBUILD requires at least one argument`,
	} {
		c, err := f.Trigger(text, at)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", text, err)
			} else if got := f.Position(c.Location()).Line; got != 3 {
				t.Errorf("%q is on line %d, want that of FROM", text, got)
			}
			continue
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: error is\n%v\nwant\n%s", text, err, want)
		}
	}
}

func TestErrorKeepsAnEarlierPosition(t *testing.T) {
	f := mustParse(t, "FROM a\nRUN x\n")
	first := f.Error(lineRange(2), errors.New("x"))
	if got := f.Error(lineRange(1), fmt.Errorf("wrapped: %w", first)); !errors.Is(got, first) {
		t.Errorf("error is %v, want %v", got, first)
	}
	if f.Error(lineRange(1), nil) != nil {
		t.Error("nil got a position")
	}
}

func TestPosition(t *testing.T) {
	f := mustParse(t, "FROM a\n")
	r := func(a, b int) parser.Range {
		return parser.Range{Start: parser.Position{Line: a}, End: parser.Position{Line: b}}
	}
	if got, want := f.Position([]parser.Range{r(4, 4), r(3, 3), r(5, 6)}), (Position{"Dockerfile", 3, 6}); got != want {
		t.Errorf("position is %v, want %v", got, want)
	}
	if got := f.Position(nil).String(); got != "Dockerfile" {
		t.Errorf("unknown position is %q", got)
	}
	if f.Line(0) != "" || f.Line(1) != "FROM a" || f.Line(2) != "" || f.Lines() != 1 {
		t.Error("lines are wrong")
	}
}

func TestLinterWith(t *testing.T) {
	f := mustParse(t, "FROM a AS B\n")
	n := 0
	l := f.LinterWith(linter.Config{SkipAll: true}, func(Finding) { n++ })
	if _, _, err := f.Instructions(l); err != nil || n != 0 {
		t.Errorf("%d findings that were to be skipped, error %v", n, err)
	}
}

func mustParse(t *testing.T, data string) *File {
	t.Helper()
	f, err := Parse("Dockerfile", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// FuzzParse holds that whatever the bytes, there is a file with stages or an error on one of its lines.
func FuzzParse(f *testing.F) {
	for _, tt := range mistakes {
		if len(tt.data) < 1<<10 { // the fuzzer takes long over large ones
			f.Add([]byte(tt.data))
		}
	}
	f.Add([]byte("# escape=`\nFROM a AS b\nRUN <<-E cat <<'F'\n\tx\n\tE\nF\nCOPY --from=b <<E /x\n$y\nE\n"))
	f.Add([]byte("FROM a\nHEALTHCHECK --interval=1s CMD [\"x\"]\nONBUILD COPY <<E /\nE\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("Dockerfile", data)
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Pos.Line < 1 || e.Pos.Line > max(1, strings.Count(string(data), "\n")+1) {
				t.Fatalf("error without a line of the file: %#v", err)
			}
			return
		}
		stages, _, err := file.Instructions(nil)
		if err != nil || len(stages) == 0 {
			t.Fatalf("%d stages the second time, error %v", len(stages), err)
		}
		for _, s := range stages {
			for _, c := range s.Commands {
				if p := file.Position(c.Location()); p.Line < 1 || p.EndLine > file.Lines() {
					t.Fatalf("%s is at %v of %d lines", c.Name(), p, file.Lines())
				}
			}
		}
	})
}
