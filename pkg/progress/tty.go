package progress

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// refresh is how often running steps are redrawn: often enough to look alive, seldom enough to cost nothing.
const refresh = 150 * time.Millisecond

// tailLines is how many lines of a running step's output are shown below it.
const tailLines = 4

// Terminal draws running steps at the bottom of a terminal, with their time and last lines of output; steps that ended
// scroll away above as one line each. size gives the width and height in characters.
type Terminal struct {
	w    io.Writer
	size func() (width, height int)

	mu      sync.Mutex
	running []*ttyStep
	drawn   int // lines at the bottom that are redrawn
	stop    chan struct{}
	stopped sync.WaitGroup
	atEnd   warnings
}

type ttyStep struct {
	id      int
	name    string
	started time.Time
	lines   []string
	part    []byte
}

// NewTerminal starts drawing on w. Close ends it.
func NewTerminal(w io.Writer, size func() (width, height int)) *Terminal {
	t := &Terminal{w: w, size: size, stop: make(chan struct{})}
	t.stopped.Go(func() {
		tick := time.NewTicker(refresh)
		defer tick.Stop()
		for {
			select {
			case <-t.stop:
				return
			case <-tick.C:
				t.mu.Lock()
				t.draw("")
				t.mu.Unlock()
			}
		}
	})
	return t
}

// Close implements Printer. It leaves the terminal with everything drawn.
func (t *Terminal) Close() {
	close(t.stop)
	t.stopped.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = nil
	var b bytes.Buffer
	t.atEnd.write(&b)
	t.draw(b.String())
}

// Emit implements Sink.
func (t *Terminal) Emit(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.atEnd.hold(e) {
		return
	}
	switch e.Kind {
	case StepStarted:
		t.running = append(t.running, &ttyStep{id: e.Step, name: oneLine(e.Name), started: e.Time})
		t.draw("")
	case Output:
		if s := t.find(e.Step); s != nil {
			s.add(e.Text) // drawn at the next tick
		}
	case StepCached:
		t.draw(" => CACHED " + oneLine(e.Name) + "\n")
	case StepDone, StepFailed:
		t.end(e)
	case Warning:
		t.draw("WARNING: " + e.Text + "\n")
	case Info:
		t.draw(e.Text + "\n")
	}
}

func (t *Terminal) find(id int) *ttyStep {
	for _, s := range t.running {
		if s.id == id {
			return s
		}
	}
	return nil
}

// end moves a step from the running ones to those above.
func (t *Terminal) end(e Event) {
	s := t.find(e.Step)
	if s == nil {
		return
	}
	t.running = slices.DeleteFunc(t.running, func(r *ttyStep) bool { return r == s })
	line := fmt.Sprintf(" => %s %.1fs\n", s.name, e.Time.Sub(s.started).Seconds())
	if e.Kind == StepFailed {
		line = fmt.Sprintf(" => ERROR %s %.1fs\n", s.name, e.Time.Sub(s.started).Seconds())
	}
	t.draw(line)
}

// draw replaces the bottom of the terminal by above, which stays, and the running steps.
func (t *Terminal) draw(above string) {
	if above == "" && len(t.running) == 0 && t.drawn == 0 {
		return
	}
	var b bytes.Buffer
	if t.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", t.drawn) // up, and clear to the end
	}
	b.WriteString(above)
	width, height := t.size()
	lines := t.bottom()
	if len(lines) > height-1 {
		lines = lines[len(lines)-max(height-1, 0):]
	}
	for _, l := range lines {
		b.WriteString(cut(l, width))
		b.WriteByte('\n')
	}
	t.drawn = len(lines)
	_, _ = t.w.Write(b.Bytes())
}

func (t *Terminal) bottom() []string {
	var lines []string
	for _, s := range t.running {
		lines = append(lines, fmt.Sprintf(" => %s %.1fs", s.name, time.Since(s.started).Seconds()))
		for _, l := range s.lines {
			lines = append(lines, " => => # "+l)
		}
	}
	return lines
}

// add keeps the last lines of output.
func (s *ttyStep) add(text string) {
	s.part = append(s.part, text...)
	for {
		line, rest, ended := bytes.Cut(s.part, []byte("\n"))
		if !ended && len(s.part) < maxLine {
			return
		}
		s.lines = append(s.lines, printable(line))
		if len(s.lines) > tailLines {
			s.lines = s.lines[1:]
		}
		s.part = append(s.part[:0], rest...)
		if !ended {
			return
		}
	}
}

// printable drops what would move the cursor: of a line that overwrites itself, the last state is kept.
func printable(line []byte) string {
	s := strings.TrimRight(string(line), "\r")
	s = s[strings.LastIndexByte(s, '\r')+1:]
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r == 0x7f, r == utf8.RuneError:
			return -1
		}
		return r
	}, s)
}

// oneLine shows a name of several lines, such as a heredoc's, by its first.
func oneLine(name string) string {
	first, rest, _ := strings.Cut(name, "\n")
	if rest != "" {
		first += " ..."
	}
	return first
}

// cut shortens a line so that it does not wrap.
func cut(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}
