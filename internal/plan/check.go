package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// Report is what the checks of a Dockerfile have found.
type Report struct {
	// Warnings are the linter's, sorted by line.
	Warnings []Warning
	// Notes are what else a build would warn of.
	Notes []Warning
	// Err is the mistake that ends planning, after Warnings; nil if there is none.
	Err error

	file *dockerfile.File
}

// Check looks at all stages of f, or at those that o.Target needs. It knows of what New would warn, and what it
// would refuse. Only the first of o.Platforms counts. The error is context.Cause(ctx) when ctx is done.
func Check(ctx context.Context, f *dockerfile.File, o Options) (*Report, error) {
	o.allStages = o.Target == ""
	o.Platforms = o.Platforms[:min(len(o.Platforms), 1)]
	p, err := New(ctx, f, o)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	r := &Report{Err: err, file: f}
	for _, w := range p.Warnings {
		if w.Rule == "" {
			r.Notes = append(r.Notes, w)
		} else {
			r.Warnings = append(r.Warnings, w)
		}
	}
	return r, nil
}

// WriteText writes how many warnings there are, and each with the lines that it is about, in the form of
// docker build --check. Err is left to the caller.
func (r *Report) WriteText(w io.Writer) error {
	var err error
	switch n := len(r.Warnings); {
	case n == 1:
		_, err = fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case n > 1:
		_, err = fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n)
	case r.Err == nil:
		_, err = fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	for _, found := range r.Warnings {
		if err == nil {
			_, err = io.WriteString(w, found.details(r.file))
		}
	}
	return err
}

// details are rule and text with the lines of f.
func (w Warning) details(f *dockerfile.File) string {
	head := "\nWARNING: " + w.Rule
	if w.URL != "" {
		head += " - " + w.URL
	}
	return dockerfile.Printable(head+"\n"+w.Text+"\n") + f.Excerpt(w.Pos).String()
}

type (
	printedReport struct {
		Warnings []printedWarning `json:"warnings"`
		Sources  []printedSource  `json:"sources"`
		Error    *printedError    `json:"buildError,omitempty"`
	}

	printedWarning struct {
		Rule        string   `json:"ruleName"`
		Description string   `json:"description,omitempty"`
		URL         string   `json:"url,omitempty"`
		Detail      string   `json:"detail,omitempty"`
		Location    Location `json:"location"`
	}

	printedSource struct {
		Filename string `json:"filename,omitempty"`
		Data     []byte `json:"data,omitempty"`
		Language string `json:"language,omitempty"`
	}

	printedError struct {
		Message  string   `json:"message"`
		Location Location `json:"location"`
	}
)

// MarshalJSON gives what BuildKit's subrequest frontend.lint gives, as far as it is about the Dockerfile. Notes are left out.
func (r *Report) MarshalJSON() ([]byte, error) {
	out := printedReport{
		Warnings: []printedWarning{},
		Sources:  []printedSource{{Filename: r.file.Name, Data: r.file.Data(), Language: "Dockerfile"}},
	}
	for _, w := range r.Warnings {
		out.Warnings = append(out.Warnings, printedWarning{w.Rule, w.Description, w.URL, w.Text, Location(w.Pos)})
	}
	if r.Err != nil {
		out.Error = &printedError{Message: r.Err.Error()}
		if e, ok := errors.AsType[*dockerfile.Error](r.Err); ok {
			out.Error = &printedError{Message: e.Err.Error(), Location: Location(e.Pos)}
		}
	}
	return json.Marshal(out)
}
