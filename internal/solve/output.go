package solve

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/progress"
)

// tailLines is how much of a failing step's output an error carries: a screen of it, as BuildKit shows.
const tailLines = 20

// maxLine bounds what is kept of one line, so that a process that never ends its line is no
// burden.
const maxLine = 4 << 10

// output passes on what a process writes, without secrets, and keeps the last lines.
type output struct {
	sink    progress.Sink
	step    *plan.Step
	streams [3]io.Writer // by file descriptor

	mu    sync.Mutex
	lines []string
	part  [3][]byte // the unfinished line of each stream
}

func newOutput(sink progress.Sink, step *plan.Step, secrets [][]byte) *output {
	o := &output{sink: sink, step: step}
	for n := 1; n <= 2; n++ {
		o.streams[n] = newRedactor(stream{o, n}, secrets)
	}
	return o
}

// stream is the writer for stdout (1) or stderr (2).
func (o *output) stream(n int) io.Writer { return o.streams[n] }

type stream struct {
	o *output
	n int
}

func (w stream) Write(p []byte) (int, error) {
	w.o.sink.Emit(progress.Event{
		Time: time.Now(), Kind: progress.Output, Step: w.o.step.ID, Name: w.o.step.Name, Stream: w.n, Text: string(p),
	})
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	w.o.keep(w.n, p)
	return len(p), nil
}

// keep remembers the last lines of p.
func (o *output) keep(n int, p []byte) {
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		if room := maxLine - len(o.part[n]); room > 0 {
			o.part[n] = append(o.part[n], line[:min(len(line), room)]...)
		}
		if ended {
			o.end(n)
		}
		p = rest
	}
}

func (o *output) end(n int) {
	o.lines = append(o.lines, strings.TrimRight(string(o.part[n]), "\r"))
	o.part[n] = o.part[n][:0]
	if len(o.lines) > tailLines {
		o.lines = o.lines[len(o.lines)-tailLines:]
	}
}

// flush ends lines that the process left unfinished.
func (o *output) flush() {
	for _, w := range o.streams {
		if r, ok := w.(*redactor); ok {
			r.flush()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for n := range o.part {
		if len(o.part[n]) > 0 {
			o.end(n)
		}
	}
}

func (o *output) tail() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.lines...)
}
