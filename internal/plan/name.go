package plan

import (
	"fmt"
	"math"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// commandName is the name of a step that does something, as BuildKit shows it: numbered, with variables of env expanded
// by e.
func (g *graph) commandName(s *stage, c command, e *expander, env *vars, code string) string {
	if res, err := e.word(code, env); err == nil {
		code = res.Result
	}
	code = upperFirstWord(code)
	if c.trigger && s.total > 0 {
		code = "ONBUILD " + code
	}
	return g.stepName(s, code, s.vars)
}

// configName is the name of a step that only changes the config. BuildKit has no such steps; these are not counted.
func (k *call) configName() string {
	code := k.cmd.Name()
	if c, ok := k.cmd.Command.(fmt.Stringer); ok {
		code = c.String()
	}
	code = upperFirstWord(code)
	if k.cmd.trigger {
		code = "ONBUILD " + code
	}
	if prefix := strings.TrimSpace(k.g.platformPrefix(k.s, k.s.vars) + k.s.label); prefix != "" {
		return "[" + prefix + "] " + code
	}
	return code
}

func upperFirstWord(s string) string {
	first, rest, ok := strings.Cut(s, " ")
	if !ok {
		return strings.ToUpper(s)
	}
	return strings.ToUpper(first) + " " + rest
}

// stepName puts platform, stage and number in front of text and counts up.
func (g *graph) stepName(s *stage, text string, env shell.EnvGetter) string {
	if s.total == 0 {
		return text
	}
	s.index++
	var b strings.Builder
	b.WriteString("[" + g.platformPrefix(s, env))
	if s.label != "" {
		b.WriteString(s.label + " ")
	}
	fmt.Fprintf(&b, "%*d/%d] %s", 1+int(math.Log10(float64(s.total))), s.index, s.total, text)
	return b.String()
}

// platformPrefix is the platform with which names begin when there are several, and the one that the stage compiles
// for.
func (g *graph) platformPrefix(s *stage, env shell.EnvGetter) string {
	if !g.multiple {
		return ""
	}
	prefix := formatPlatform(*s.platform)
	if env != nil {
		prefix += crossSuffix(*s.platform, env)
	}
	return prefix + " "
}

// crossSuffix is "->arm64" in a stage that declares TARGETPLATFORM and its parts and runs on another platform.
func crossSuffix(base ocispec.Platform, env shell.EnvGetter) string {
	target, ok := targetFrom(env)
	if !ok {
		return ""
	}
	if target.OS == "" {
		target.OS = base.OS
	}
	if target.Architecture == "" {
		target.Architecture = base.Architecture
	}
	target = platforms.Normalize(target)
	switch {
	case target.OS != base.OS:
		return "->" + formatPlatform(target)
	case target.Architecture == base.Architecture:
		return ""
	case target.Variant != "":
		return "->" + target.Architecture + "/" + target.Variant
	}
	return "->" + target.Architecture
}

func targetFrom(env shell.EnvGetter) (p ocispec.Platform, ok bool) {
	for _, key := range env.Keys() {
		v, _ := env.Get(key)
		switch key {
		case "TARGETPLATFORM":
			if p, err := platforms.Parse(v); err == nil {
				return p, true
			}
			continue
		case "TARGETOS":
			p.OS = v
		case "TARGETARCH":
			p.Architecture = v
		case "TARGETVARIANT":
			p.Variant = v
		default:
			continue
		}
		ok = true
	}
	return p, ok
}

func formatPlatform(p ocispec.Platform) string { return platforms.FormatAll(p) }
