// Package dockerfile turns the bytes of a Dockerfile into typed, positioned instructions, and its
// mistakes into errors that name the line. It knows nothing of images or of the disk.
package dockerfile

import "fmt"

// Position is a place in a Dockerfile.
type Position struct {
	// File is the name as the user gave it.
	File string `json:"file"`
	// Line and EndLine count from 1 and are both part of the instruction. Zero: unknown.
	Line    int `json:"line"`
	EndLine int `json:"endLine,omitempty"`
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Error is a mistake in a Dockerfile. Every error of parsing and planning that a line of the Dockerfile causes is
// one.
type Error struct {
	Pos Position
	Err error
	// Excerpt shows the lines that are to blame; it may be empty.
	Excerpt Excerpt
}

// Error gives "Dockerfile:12: message".
func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Pos, e.Err) }

func (e *Error) Unwrap() error { return e.Err }
