package solve

import (
	"bytes"
	"io"
)

const (
	// redacted stands for a secret in what a process writes.
	redacted = "****"

	// minRedacted is the length in bytes from which on a secret is looked for. Shorter ones would make output unreadable, and
	// guard nothing.
	minRedacted = 6
)

// redactor passes on what is written to it with secrets left out, however they are cut into writes. It is not safe for
// concurrent use.
type redactor struct {
	w       io.Writer
	secrets [][]byte
	held    []byte // the end of what was written, as far as a secret may begin in it
}

// newRedactor returns w itself when there is nothing to look for.
func newRedactor(w io.Writer, secrets [][]byte) io.Writer {
	r := &redactor{w: w}
	for _, s := range secrets {
		// Programs print secrets without the newline that ends their file.
		if s = bytes.TrimSpace(s); len(s) >= minRedacted {
			r.secrets = append(r.secrets, s)
		}
	}
	if len(r.secrets) == 0 {
		return w
	}
	return r
}

// Write passes on all of p but for secrets, and an end that may be the beginning of one.
func (r *redactor) Write(p []byte) (int, error) {
	text := append(r.held, p...)
	for _, s := range r.secrets {
		text = bytes.ReplaceAll(text, s, []byte(redacted))
	}
	hold := 0
	for _, s := range r.secrets {
		hold = max(hold, overlap(text, s))
	}
	out := text[:len(text)-hold]
	r.held = bytes.Clone(text[len(out):])
	if len(out) > 0 {
		if _, err := r.w.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// flush passes on what was held back: no secret has followed.
func (r *redactor) flush() {
	if len(r.held) > 0 {
		_, _ = r.w.Write(r.held) // output goes to the build's own events, which do not fail
		r.held = nil
	}
}

// overlap is the length of the longest end of text that is a beginning of secret, but not all of it.
func overlap(text, secret []byte) int {
	for n := min(len(text), len(secret)-1); n > 0; n-- {
		if bytes.HasSuffix(text, secret[:n]) {
			return n
		}
	}
	return 0
}
