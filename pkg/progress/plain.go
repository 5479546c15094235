package progress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Rules of voice for everything printed: a step is "#3", as in BuildKit's plain output, because logs are read by
// scripts that know it; each line of a step's output carries the step and the seconds since it started; lines are
// printed whole; the last line of a step says how it ended.

// maxLine bounds the part of an unfinished line that is held back.
const maxLine = 8 << 10

// Plain prints events as lines, for logs. Errors of w are ignored: a build does not fail because nobody
// reads its log.
func Plain(w io.Writer) Printer {
	return &plain{w: w, steps: map[int]*plainStep{}}
}

type plain struct {
	mu    sync.Mutex
	w     io.Writer
	steps map[int]*plainStep
	buf   bytes.Buffer
	atEnd warnings
}

type plainStep struct {
	started time.Time
	part    [3][]byte // unfinished lines of streams 1 and 2
}

func (p *plain) Emit(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.atEnd.hold(e) {
		return
	}
	p.buf.Reset()
	switch e.Kind {
	case Warning:
		fmt.Fprintf(&p.buf, "WARNING: %s\n", e.Text)
	case Info:
		fmt.Fprintf(&p.buf, "%s\n", e.Text)
	default:
		p.step(e)
	}
	_, _ = p.w.Write(p.buf.Bytes())
}

func (p *plain) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf.Reset()
	p.atEnd.write(&p.buf)
	_, _ = p.w.Write(p.buf.Bytes())
}

func (p *plain) step(e Event) {
	s := p.steps[e.Step]
	if s == nil {
		s = &plainStep{started: e.Time}
		p.steps[e.Step] = s
		fmt.Fprintf(&p.buf, "#%d %s\n", e.Step, oneLine(e.Name))
	}
	switch e.Kind {
	case StepCached:
		fmt.Fprintf(&p.buf, "#%d CACHED\n", e.Step)
	case StepDone:
		s.flush(p, e)
		fmt.Fprintf(&p.buf, "#%d DONE %.1fs\n", e.Step, e.Time.Sub(s.started).Seconds())
	case StepFailed:
		s.flush(p, e)
		fmt.Fprintf(&p.buf, "#%d ERROR: %s\n", e.Step, e.Text)
	case Output:
		s.output(p, e)
	case StepStarted, Warning, Info: // the step's name was all
	}
}

// output prints the lines that e ends, and keeps the rest.
func (s *plainStep) output(p *plain, e Event) {
	part := append(s.part[e.Stream], e.Text...)
	for {
		line, rest, ended := bytes.Cut(part, []byte("\n"))
		if !ended && len(part) < maxLine {
			break
		}
		p.line(e, s, line)
		part = rest
	}
	s.part[e.Stream] = append(s.part[e.Stream][:0], part...)
}

func (s *plainStep) flush(p *plain, e Event) {
	for i, part := range s.part {
		if len(part) > 0 {
			p.line(e, s, part)
			s.part[i] = nil
		}
	}
}

func (p *plain) line(e Event, s *plainStep, line []byte) {
	fmt.Fprintf(&p.buf, "#%d %.3f %s\n", e.Step, e.Time.Sub(s.started).Seconds(), bytes.TrimRight(line, "\r"))
}

// JSON prints each event as one line of JSON.
func JSON(w io.Writer) Printer {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &jsonLines{enc: enc}
}

type jsonLines struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (j *jsonLines) Emit(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = j.enc.Encode(e)
}

func (j *jsonLines) Close() {}

// Quiet prints warnings only.
func Quiet(w io.Writer) Printer { return &quiet{Plain(w)} }

type quiet struct{ plain Printer }

func (q *quiet) Close() { q.plain.Close() }

func (q *quiet) Emit(e Event) {
	if e.Kind == Warning {
		q.plain.Emit(e)
	}
}
