package progress

import (
	"bytes"
	"fmt"
)

// warnings holds back those about a Dockerfile until the build is over: before its output nobody would see them.
type warnings struct{ held []Event }

// hold keeps e if it is to be shown at the end.
func (h *warnings) hold(e Event) bool {
	if e.Kind != Warning || e.File == "" {
		return false
	}
	h.held = append(h.held, e)
	return true
}

// write writes how many there are, and each with the lines that it is about.
func (h *warnings) write(b *bytes.Buffer) {
	switch n := len(h.held); n {
	case 0:
		return
	case 1:
		b.WriteString("\n1 warning found:\n")
	default:
		fmt.Fprintf(b, "\n%d warnings found:\n", n)
	}
	for _, e := range h.held {
		b.WriteString("\nWARNING: ")
		if e.Rule != "" {
			b.WriteString(e.Rule)
			if e.URL != "" {
				b.WriteString(" - " + e.URL)
			}
			b.WriteString("\n")
		}
		b.WriteString(e.Text + "\n" + e.Excerpt)
	}
	b.WriteString("\n") // an error may follow
	h.held = nil
}
