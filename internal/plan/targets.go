package plan

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// Targets lists the stages of a Dockerfile. Its JSON is that of BuildKit's subrequest frontend.targets.
type Targets struct {
	Targets []Target `json:"targets"`
	// Sources holds the Dockerfile.
	Sources [][]byte `json:"sources"`
}

// Target is one stage.
type Target struct {
	// Name is empty for a stage without one.
	Name string `json:"name,omitempty"`
	// Default is set for the last stage.
	Default bool `json:"default,omitempty"`
	// Description is what a comment "# name description" right above FROM says.
	Description string `json:"description,omitempty"`
	// Base and Platform are as FROM has them, variables and all.
	Base     string   `json:"base,omitempty"`
	Platform string   `json:"platform,omitempty"`
	Location Location `json:"location"`
}

// ListTargets lists the stages of f in their order.
func ListTargets(f *dockerfile.File) (*Targets, error) {
	stages, _, err := f.Instructions(nil)
	if err != nil {
		return nil, err
	}
	t := &Targets{Sources: [][]byte{f.Data()}}
	for i, s := range stages {
		t.Targets = append(t.Targets, Target{
			Name:        s.Name,
			Default:     i == len(stages)-1,
			Description: s.DocComment,
			Base:        s.BaseName,
			Platform:    s.Platform,
			Location:    Location(f.Position(s.Location)),
		})
	}
	return t, nil
}

// WriteText writes a table for people.
func (t *Targets) WriteText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprint(tw, "TARGET\tDESCRIPTION\n")
	for _, s := range t.Targets {
		name := s.Name
		switch {
		case name == "" && s.Default:
			name = "(default)"
		case s.Default:
			name += " (default)"
		}
		fmt.Fprintf(tw, "%s\t%s\n", cell(name), cell(s.Description))
	}
	return tw.Flush()
}

// cell is text that keeps to its column of a table.
func cell(s string) string { return printable(s, 4*nameWidth) }
