package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// printError shows what ended the program: the last output of the step that failed, the lines of the Dockerfile that are to
// blame, and the message.
func printError(w io.Writer, err error) {
	var step *build.StepError
	if errors.As(err, &step) {
		if len(step.Output) > 0 {
			fmt.Fprintf(w, "------\n > %s:\n%s\n------\n", step.Step.Name, strings.Join(step.Output, "\n"))
		}
	}
	var file *dockerfile.Error
	switch {
	case errors.As(err, &file):
		fmt.Fprint(w, file.Excerpt)
	case step != nil:
		fmt.Fprint(w, step.Excerpt)
	}
	fmt.Fprintf(w, "error: %s\n", dockerfile.Printable(err.Error()))
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(w, "Run 'gobuild --help' for usage.")
	}
}
