package solve

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// StepError says which step failed.
type StepError struct {
	Step *plan.Step
	Err  error
	// Output holds the last lines that the step's process wrote.
	Output []string
	// Excerpt shows the step's lines of the Dockerfile; empty where nobody who has the file has filled it in.
	Excerpt dockerfile.Excerpt
}

// Error gives "Dockerfile:12: RUN make: cause".
func (e *StepError) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.Step.Source, e.instruction(), e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// instruction is the step's name without the "[stage 1/2]" in front.
func (e *StepError) instruction() string {
	_, after, found := strings.Cut(e.Step.Name, "] ")
	if !found {
		return e.Step.Name
	}
	return after
}

// stepError wraps what went wrong in a step, once: errors of the steps below, and cancellation because of
// another step, keep the step that they have.
func stepError(ctx context.Context, step *plan.Step, err error) error {
	if err == nil {
		return nil
	}
	var already *StepError
	if errors.As(err, &already) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return &StepError{Step: step, Err: err}
}
