// Package progress is the stream of events that a build emits, and the printers that turn it
// into what people and programs read.
package progress

import "time"

// Kind says what happened.
type Kind string

const (
	// StepStarted and the next three tell the life of a step.
	StepStarted Kind = "step-started"
	// StepCached says that the step's result was found, and that it will not start.
	StepCached Kind = "step-cached"
	StepDone   Kind = "step-done"
	StepFailed Kind = "step-failed"
	// Output is output of a step, as it was written: Text is not necessarily a whole line.
	Output Kind = "output"
	// Warning is something that the user should know of and that does not stop the build.
	Warning Kind = "warning"
	// Info is a line for the user that belongs to no step.
	Info Kind = "info"
)

// Event is one thing that happened. It is flat, and stable as JSON.
type Event struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`
	// Step is the number of the step, from 1, in the order in which the plan prints them; 0 for an event of no step.
	Step int `json:"step,omitempty"`
	// Name is the step as people know it: "[build 2/4] RUN make".
	Name string `json:"name,omitempty"`
	// Text is output, the error, or the message.
	Text string `json:"text,omitempty"`
	// Stream is 1 or 2 for output of a step.
	Stream int `json:"stream,omitempty"`

	// File and Line say which line of a Dockerfile a warning is about, EndLine which is the last one. Line is 0 when
	// it is about the whole file.
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	EndLine int    `json:"endLine,omitempty"`
	// Rule is the linter's rule that warns, and URL where more stands on it. Both may be empty.
	Rule string `json:"rule,omitempty"`
	URL  string `json:"url,omitempty"`
	// Excerpt shows the lines, for people: file and line, and the text with marks. It ends with a new line.
	Excerpt string `json:"excerpt,omitempty"`
}

// Sink receives events. Emit is safe for concurrent use, does not block for long, and does not keep Text's
// memory beyond the call's needs.
type Sink interface {
	Emit(Event)
}

// Printer is a Sink that prints.
type Printer interface {
	Sink
	// Close prints what was held back for the end, such as warnings about lines of a Dockerfile. Nothing is emitted
	// afterwards.
	Close()
}
