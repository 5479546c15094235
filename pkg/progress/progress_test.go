package progress

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

func at(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }

func build(sink Sink) {
	for _, e := range []Event{
		{Time: at(0), Kind: StepCached, Step: 1, Name: "[1/3] WORKDIR /src"},
		{Time: at(0), Kind: StepStarted, Step: 2, Name: "[2/3] RUN make"},
		{Time: at(100), Kind: Output, Step: 2, Stream: 1, Text: "half a "},
		{Time: at(150), Kind: Output, Step: 2, Stream: 2, Text: "an error\r\n"},
		{Time: at(200), Kind: Output, Step: 2, Stream: 1, Text: "line\nand no end"},
		{Time: at(1500), Kind: StepDone, Step: 2, Name: "[2/3] RUN make"},
		{Time: at(1500), Kind: Warning, Text: "beware"},
		{Time: at(1500), Kind: StepStarted, Step: 3, Name: "[3/3] RUN <<EOF\nfalse\nEOF"},
		{Time: at(1600), Kind: StepFailed, Step: 3, Text: "exit code: 1"},
	} {
		sink.Emit(e)
	}
}

func TestPlainPrintsWholeLines(t *testing.T) {
	var b bytes.Buffer
	build(Plain(&b))
	want := `#1 [1/3] WORKDIR /src
#1 CACHED
#2 [2/3] RUN make
#2 0.150 an error
#2 0.200 half a line
#2 1.500 and no end
#2 DONE 1.5s
WARNING: beware
#3 [3/3] RUN <<EOF ...
#3 ERROR: exit code: 1
`
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

// lint emits two warnings about a Dockerfile while a step runs.
func lint(sink Sink) {
	sink.Emit(Event{Time: at(0), Kind: StepStarted, Step: 1, Name: "[1/1] RUN x"})
	sink.Emit(Event{Time: at(0), Kind: Warning, Rule: "R", URL: "https://r", Text: "is odd", File: "D", Line: 2, Excerpt: "D:2\n >>> x\n"})
	sink.Emit(Event{Time: at(0), Kind: Warning, Text: "unused", File: "D"})
	sink.Emit(Event{Time: at(0), Kind: Warning, Text: "registry is slow"})
	sink.Emit(Event{Time: at(0), Kind: StepDone, Step: 1})
}

const lintEnd = `
2 warnings found:

WARNING: R - https://r
is odd
D:2
 >>> x

WARNING: unused

`

func TestWarningsOnADockerfileComeLast(t *testing.T) {
	for name, tt := range map[string]struct {
		printer func(io.Writer) Printer
		want    string
	}{
		"plain":    {Plain, "#1 [1/1] RUN x\nWARNING: registry is slow\n#1 DONE 0.0s\n" + lintEnd},
		"quiet":    {Quiet, "WARNING: registry is slow\n" + lintEnd},
		"terminal": {func(w io.Writer) Printer { return NewTerminal(w, func() (int, int) { return 80, 24 }) }, lintEnd},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			p := tt.printer(&b)
			lint(p)
			p.Close()
			if !strings.HasSuffix(b.String(), tt.want) {
				t.Errorf("got:\n%s\nwant at the end:\n%s", b.String(), tt.want)
			}
		})
	}
}

func TestOneWarningIsOne(t *testing.T) {
	var b bytes.Buffer
	p := Plain(&b)
	p.Emit(Event{Kind: Warning, Text: "unused", File: "D"})
	p.Close()
	if want := "\n1 warning found:\n\nWARNING: unused\n\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestPlainBoundsALineWithoutEnd(t *testing.T) {
	var b bytes.Buffer
	p := Plain(&b)
	for range 100 {
		p.Emit(Event{Time: at(0), Kind: Output, Step: 1, Stream: 1, Text: strings.Repeat("x", 1000)})
	}
	if held := len(p.(*plain).steps[1].part[1]); held > maxLine {
		t.Errorf("holds %d bytes of a line that does not end", held)
	}
}

func TestJSONIsOneEventALine(t *testing.T) {
	var b bytes.Buffer
	build(JSON(&b))
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 9 {
		t.Fatalf("%d lines for 9 events", len(lines))
	}
	var e Event
	if err := json.Unmarshal([]byte(lines[2]), &e); err != nil || e.Kind != Output || e.Text != "half a " {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestTerminalNeverWrapsOrMovesTheCursor(t *testing.T) {
	var b bytes.Buffer
	term := NewTerminal(&b, func() (int, int) { return 20, 10 })
	term.Emit(Event{Time: time.Now(), Kind: StepStarted, Step: 1, Name: strings.Repeat("long", 20)})
	term.Emit(Event{Time: time.Now(), Kind: Output, Step: 1, Text: "10%\r20%\x1b[2J\n"})
	term.mu.Lock()
	term.draw("")
	term.mu.Unlock()
	term.Close()
	for line := range strings.Lines(b.String()) {
		text := strings.TrimRight(line, "\n")
		for strings.HasPrefix(text, "\x1b[") { // our own movements come first
			text = text[strings.IndexAny(text, "AJ")+1:]
		}
		if len(text) > 20 || strings.ContainsAny(text, "\x1b\r") {
			t.Errorf("line %q", text)
		}
	}
	if !strings.Contains(b.String(), "# 20%") || strings.Contains(b.String(), "10%") {
		t.Errorf("a line that overwrote itself is not shown in its last state: %q", b.String())
	}
}
