package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// syntaxArg is the build argument that BuildKit takes for a syntax directive.
const syntaxArg = "BUILDKIT_SYNTAX"

// warn adds the warnings that are not the linter's, and sorts.
func (p *Plan) warn(g *graph) {
	p.warnArgs(g)
	p.warnSyntax(g)
	slices.SortStableFunc(p.Warnings, func(a, b Warning) int { return a.Pos.Line - b.Pos.Line })
}

// warnArgs tells of build arguments that nothing declares. They are known once the file has been read.
func (p *Plan) warnArgs(g *graph) {
	if g.declared == nil {
		return
	}
	for _, name := range unusedArgs(g.opts.BuildArgs, g.declared) {
		p.Warnings = append(p.Warnings, Warning{
			Pos:  dockerfile.Position{File: g.file.Name},
			Text: fmt.Sprintf("build argument %q is not declared by any ARG", name),
		})
	}
}

// warnSyntax tells that a frontend of another language is not used. The build argument goes before the directive.
func (p *Plan) warnSyntax(g *graph) {
	pos := dockerfile.Position{File: g.file.Name}
	ref, given := g.opts.BuildArgs[syntaxArg]
	if d, ok := g.file.Directive("syntax"); ok && !given {
		ref, pos, given = d.Value, d.Pos, true
	}
	if given && !isDockerfileSyntax(ref) {
		p.Warnings = append(p.Warnings, Warning{
			Pos:  pos,
			Text: fmt.Sprintf("frontend %q is not used: gobuild reads the language of docker/dockerfile itself", ref),
		})
	}
}

// isDockerfileSyntax tells whether a syntax directive names the frontend of this language, wherever it is mirrored.
func isDockerfileSyntax(ref string) bool {
	ref, _, _ = strings.Cut(strings.TrimSpace(ref), " ")
	ref, _, _ = strings.Cut(ref, "@")
	name := ref[strings.LastIndex(ref, "/")+1:]
	name, _, _ = strings.Cut(name, ":")
	return name == "dockerfile" || name == "dockerfile-upstream"
}
