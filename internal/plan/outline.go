package plan

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// Outline is what the build of a target takes. Its JSON is that of BuildKit's subrequest frontend.outline.
type Outline struct {
	// Name of the target, and what a comment "# name description" above its FROM says.
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
	// Args, and the mounts, are those of the target and of all stages that it needs, by line.
	Args    []OutlineArg   `json:"args,omitempty"`
	Secrets []OutlineMount `json:"secrets,omitempty"`
	SSH     []OutlineMount `json:"ssh,omitempty"`
	// Cache is always empty in BuildKit.
	Cache []OutlineCache `json:"cache,omitempty"`
	// Sources holds the Dockerfile.
	Sources [][]byte `json:"sources,omitempty"`
}

// OutlineArg is a build argument that is used.
type OutlineArg struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Value is the one that the build would have: a build argument's, or the default with its variables expanded.
	Value    string   `json:"value,omitempty"`
	Location Location `json:"location"`
}

// OutlineMount is a secret or an ssh agent.
type OutlineMount struct {
	Name     string   `json:"name"`
	Required bool     `json:"required,omitempty"`
	Location Location `json:"location"`
}

// OutlineCache is a cache mount.
type OutlineCache struct {
	ID       string   `json:"ID"`
	Location Location `json:"location"`
}

// NewOutline tells what the build of o.Target takes. It needs the configs of the bases, as New does: defaults of
// arguments may use their variables. Only the first of o.Platforms counts.
func NewOutline(ctx context.Context, f *dockerfile.File, o Options) (*Outline, error) {
	o.Platforms = o.Platforms[:min(len(o.Platforms), 1)]
	p := &Plan{}
	graphs, err := p.plan(ctx, f, o)
	if err != nil {
		return nil, err
	}
	if err := p.lintError(graphs[0]); err != nil {
		return nil, err
	}
	return graphs[0].outline()
}

func (g *graph) outline() (*Outline, error) {
	specs, global, err := g.file.Instructions(nil)
	if err != nil {
		return nil, err
	}
	target, err := g.targetStage(g.opts.Target)
	if err != nil {
		return nil, err
	}
	w := &outliner{
		g: g, specs: specs, global: map[string]argInput{}, index: map[*stage]int{},
		seen: map[string]bool{}, visited: map[*stage]bool{},
		out: &Outline{Name: target.spec.Name, Description: target.spec.DocComment, Sources: [][]byte{g.file.Data()}},
	}
	for i := range specs {
		w.index[g.stages[i]] = i
	}
	if err := w.addGlobal(global); err != nil {
		return nil, err
	}
	w.visit(target)
	sortByLine(w.out.Args, func(a OutlineArg) Location { return a.Location })
	sortByLine(w.out.Secrets, func(m OutlineMount) Location { return m.Location })
	sortByLine(w.out.SSH, func(m OutlineMount) Location { return m.Location })
	sortByLine(w.out.Cache, func(c OutlineCache) Location { return c.Location })
	return w.out, nil
}

func sortByLine[T any](list []T, at func(T) Location) {
	slices.SortStableFunc(list, func(a, b T) int { return at(a).Line - at(b).Line })
}

// WriteText writes tables for people.
func (o *Outline) WriteText(w io.Writer) error {
	if o.Name != "" || o.Description != "" {
		rows := [][]string{{"TARGET:", o.Name}}
		if o.Name == "" {
			rows[0][1] = "(default)"
		}
		if o.Description != "" {
			rows = append(rows, []string{"DESCRIPTION:", o.Description})
		}
		if err := writeTable(w, 1, rows); err != nil {
			return err
		}
	}
	args := [][]string{{"BUILD ARG", "VALUE", "DESCRIPTION"}}
	for _, a := range o.Args {
		args = append(args, []string{a.Name, a.Value, a.Description})
	}
	caches := [][]string{{"CACHE"}}
	for _, c := range o.Cache {
		caches = append(caches, []string{c.ID})
	}
	for _, rows := range [][][]string{args, mountRows("SECRET", o.Secrets), mountRows("SSH", o.SSH), caches} {
		if len(rows) == 1 {
			continue
		}
		if err := writeTable(w, 3, rows); err != nil {
			return err
		}
	}
	return nil
}

func mountRows(kind string, mounts []OutlineMount) [][]string {
	rows := [][]string{{kind, "REQUIRED"}}
	for _, m := range mounts {
		required := ""
		if m.Required {
			required = "true"
		}
		rows = append(rows, []string{m.Name, required})
	}
	return rows
}

// writeTable writes rows in columns that are padding apart, and an empty line.
func writeTable(w io.Writer, padding int, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
	for _, row := range rows {
		for i, text := range row {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, cell(text))
		}
		fmt.Fprint(tw, "\n")
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}
