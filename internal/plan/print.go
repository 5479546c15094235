package plan

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// nameWidth is how much of a step's name WriteText shows, in characters.
const nameWidth = 100

// WriteText writes the plan for people: two lines for each step, then the goals and the warnings.
func (p *Plan) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	indent := strings.Repeat(" ", len(strconv.Itoa(len(p.Steps)))+2)
	for _, s := range p.Steps {
		fmt.Fprintf(b, "%-*s%s\n", len(indent), "#"+strconv.Itoa(s.ID), printable(shortDigests(s.Name), nameWidth))
		fmt.Fprintf(b, "%s%s\n", indent, strings.Join(s.facts(), ", "))
	}
	for _, g := range p.Goals {
		fmt.Fprintf(b, "goal %s: #%d\n", formatPlatform(g.Image.Platform), g.ID)
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(b, "warning: %s\n", printable(warning.String(), 4*nameWidth))
	}
	return b.Flush()
}

// facts are what WriteText says about a step.
func (s *Step) facts() []string {
	facts := []string{opKind(s.Op)}
	if n := s.Op.Needs(); n != NeedsNothing {
		facts = append(facts, "needs "+n.String())
	}
	if s.Base != nil {
		facts = append(facts, fmt.Sprintf("on #%d", s.Base.ID))
	}
	for _, u := range s.Uses {
		facts = append(facts, fmt.Sprintf("from #%d", u.ID))
	}
	if usesContext(s.Op) {
		facts = append(facts, "from context")
	}
	return append(facts, s.Source.String())
}

func opKind(op Op) string {
	switch op.(type) {
	case Scratch:
		return "scratch"
	case Pull:
		return "pull"
	case HTTP:
		return "http"
	case Git:
		return "git"
	case Local:
		return "local"
	case Run:
		return "run"
	case Copy:
		return "copy"
	case WorkDir:
		return "workdir"
	case Config:
		return "config"
	}
	return fmt.Sprintf("%T", op)
}

// usesContext tells whether op reads the build context.
func usesContext(op Op) bool {
	switch op := op.(type) {
	case Copy:
		return slices.ContainsFunc(op.Sources, func(s Source) bool { return s.Inline == nil && s.From == nil })
	case Run:
		return slices.ContainsFunc(op.Mounts, func(m Mount) bool { return m.Type == MountBind && m.From == nil })
	}
	return false
}

var longDigest = regexp.MustCompile(`(@sha256:[0-9a-f]{12})[0-9a-f]{52}`)

// shortDigests leaves of digests what tells them apart.
func shortDigests(s string) string { return longDigest.ReplaceAllString(s, "$1") }

// printable is s in one line of at most width characters, without anything that moves a terminal's cursor.
func printable(s string, width int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

type (
	printedPlan struct {
		Steps    []printedStep `json:"steps"`
		Goals    []printedGoal `json:"goals"`
		Epoch    *time.Time    `json:"epoch,omitempty"`
		Warnings []Warning     `json:"warnings,omitempty"`
	}

	printedStep struct {
		ID       int                 `json:"id"`
		Name     string              `json:"name"`
		Kind     string              `json:"kind"`
		Needs    string              `json:"needs"`
		Base     int                 `json:"base,omitempty"`
		Uses     []int               `json:"uses,omitempty"`
		Platform string              `json:"platform"`
		Source   dockerfile.Position `json:"source"`
		Op       Op                  `json:"op"`
		History  []ocispec.History   `json:"history,omitempty"`
	}

	printedGoal struct {
		Step     int                        `json:"step"`
		Platform string                     `json:"platform"`
		Image    *dockerspec.DockerOCIImage `json:"image"`
	}
)

// MarshalJSON gives the graph with steps named by their numbers, and the images of the goals. The values of proxy arguments, which
// may hold passwords, are left out.
func (p *Plan) MarshalJSON() ([]byte, error) {
	out := printedPlan{Epoch: p.Epoch, Warnings: p.Warnings}
	for _, s := range p.Steps {
		step := printedStep{
			ID:       s.ID,
			Name:     s.Name,
			Kind:     opKind(s.Op),
			Needs:    s.Op.Needs().String(),
			Platform: formatPlatform(fromV1(s.Platform)),
			Source:   s.Source,
			Op:       s.Op,
			History:  s.Adds,
		}
		if s.Base != nil {
			step.Base = s.Base.ID
		}
		for _, u := range s.Uses {
			step.Uses = append(step.Uses, u.ID)
		}
		out.Steps = append(out.Steps, step)
	}
	for _, g := range p.Goals {
		out.Goals = append(out.Goals, printedGoal{Step: g.ID, Platform: formatPlatform(g.Image.Platform), Image: g.Image})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // "->" in names stays readable
	err := enc.Encode(out)
	return b.Bytes(), err
}
