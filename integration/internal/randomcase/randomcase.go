// Package randomcase makes random cases that builders should agree on: Dockerfiles of several stages that nearly always
// build, contexts with links, modes, owners and archives, and ignore files. A case consists of parts, any of which may be
// left out, so that one that shows a difference can be made small.
//
// What docs/differences.md lists is not generated: owners that the image does not know, sockets and devices,
// extended attributes, whiteout names, and archives with links.
package randomcase

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
)

// Case is a case in parts.
type Case struct {
	parts []part
}

// part is what is left out as a whole.
type part struct {
	place place
	// text is a directive, lines of a Dockerfile, a pattern, or, in fixtures, directives that need each other.
	text string
	// file is the name of the file whose contents text is, for a file of the context.
	file string
}

type place int

const (
	directive place = iota
	instruction
	pattern
	file
)

// Options say what a case may hold.
type Options struct {
	// HardLinks lets files have several names. Not all drivers keep those of different layers apart.
	HardLinks bool
}

// New makes the case of a seed. The same seed and options always make the same case.
func New(seed uint64, o Options) *Case {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), options: o}
	g.tree()
	g.stages()
	return &Case{parts: g.parts}
}

// Text is the case as a txtar archive, as package casefile reads it.
func (c *Case) Text() []byte {
	var b strings.Builder
	section := func(p place, head string) {
		for _, part := range c.parts {
			if part.place != p {
				continue
			}
			b.WriteString(head)
			head = ""
			if part.file != "" {
				fmt.Fprintf(&b, "-- %s --\n", part.file)
			}
			b.WriteString(part.text + "\n")
		}
	}
	b.WriteString("# Found by comparing random builds.\n")
	section(directive, "")
	section(instruction, "-- Dockerfile --\n")
	section(pattern, "-- .dockerignore --\n")
	section(file, "")
	return []byte(b.String())
}

// Smaller yields the case without some of its parts: without many at first, then without each one.
func (c *Case) Smaller() iter.Seq[*Case] {
	return func(yield func(*Case) bool) {
		for n := len(c.parts) / 2; n > 0; n /= 2 {
			for i := 0; i+n <= len(c.parts); i += n {
				if !yield(&Case{parts: slices.Delete(slices.Clone(c.parts), i, i+n)}) {
					return
				}
			}
		}
	}
}

// generator makes parts.
type generator struct {
	*rand.Rand
	options Options
	parts   []part

	sources []string // paths in the context, for COPY
	names   []string // of the stages so far; a number where there is no name
	shell   []bool   // whether each of them can RUN
}

func (g *generator) add(p place, format string, args ...any) {
	g.parts = append(g.parts, part{place: p, text: fmt.Sprintf(format, args...)})
}

// pick returns one of several values.
func pick[T any](g *generator, values ...T) T { return values[g.IntN(len(values))] }

// chance is true in n of 100 cases.
func (g *generator) chance(n int) bool { return g.IntN(100) < n }
