package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gobuild-dev/gobuild/internal/solve"
	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// printError shows what ended the program: the message, which names the line of the Dockerfile if one is to blame,
// then that line, or the last output of the step that failed.
func printError(w io.Writer, err error) {
	var step *solve.StepError
	if errors.As(err, &step) && len(step.Output) > 0 {
		fmt.Fprintf(w, "------\n > %s:\n%s\n------\n", step.Step.Name, strings.Join(step.Output, "\n"))
	}
	fmt.Fprintf(w, "error: %v\n", err)
	var file *dockerfile.Error
	if errors.As(err, &file) && file.Text != "" {
		fmt.Fprintf(w, "%5d | %s\n", file.Pos.Line, file.Text)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(w, "Run 'gobuild --help' for usage.")
	}
}
