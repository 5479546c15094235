package plan

import (
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What values of named contexts begin with. Everything else is a remote source, or a directory.
const (
	imagePrefix  = "docker-image://"
	targetPrefix = "target:"
)

// namedContext is one of Options.Contexts.
type namedContext struct {
	key   string // as it is given, with the platform if there is one
	value string
}

// findContext returns the named context that stands for a stage or an image; nil if there is none. One for the platform
// comes before one for all. References of images match without what is default in them, such as ":latest".
func (g *graph) findContext(name string, p *ocispec.Platform) *namedContext {
	if len(g.opts.Contexts) == 0 || strings.EqualFold(name, scratch) || strings.EqualFold(name, "context") {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil
	}
	name = strings.TrimSuffix(reference.FamiliarString(named), ":latest")
	if p == nil {
		p = &g.targetPlatform
	}
	for _, key := range []string{name + "::" + platforms.FormatAll(platforms.Normalize(*p)), name} {
		if value, ok := g.opts.Contexts[key]; ok {
			return &namedContext{key: key, value: value}
		}
	}
	return nil
}

// replace lets a named context take the place of a whole stage of the same name.
func (g *graph) replace(s *stage) {
	if s.spec.Name == "" {
		return
	}
	if s.context = g.findContext(s.spec.Name, s.platform); s.context == nil {
		return
	}
	s.spec.Commands = nil
	s.replaced = true
}

// aliased returns the stage that a context of the form target:NAME stands for; nil if it is none.
func (g *graph) aliased(c *namedContext) (*stage, error) {
	if c == nil {
		return nil, nil
	}
	name, ok := strings.CutPrefix(c.value, targetPrefix)
	if !ok {
		return nil, nil
	}
	s := g.byName[strings.ToLower(name)]
	if s == nil {
		return nil, fmt.Errorf("named context %q: there is no stage %q before it", c.key, name)
	}
	return s, nil
}

// origin is what a stage begins with that is a named context. Its config is still to be looked up if it has a
// reference to an image.
func (c *namedContext) origin(p ocispec.Platform) (*origin, error) {
	name := "[context " + c.key + "] "
	if ref, ok := strings.CutPrefix(c.value, imagePrefix); ok {
		if ref == scratch {
			return &origin{config: emptyImage(p), op: Scratch{}, name: name + ref}, nil
		}
		full, err := normalizeRef(ref)
		if err != nil {
			return nil, fmt.Errorf("named context %q: parse reference %q: %w", c.key, ref, err)
		}
		return &origin{ref: full, name: name + ref}, nil
	}
	if strings.HasPrefix(c.value, ociLayout) {
		return &origin{ref: c.value, name: name + c.value}, nil
	}
	op, err := remoteOp(c.value)
	if err != nil {
		return nil, fmt.Errorf("named context %q: %w", c.key, err)
	}
	if h, ok := op.(HTTP); ok {
		h.Name = "context"
		op = h
	}
	name += "load from client"
	if op == nil {
		op = Local{Context: c.key}
	} else {
		name = "[context " + c.key + "] " + shownURL(c.value)
	}
	return &origin{config: emptyImage(p), op: op, name: name}, nil
}

// bareImage is the image of a stage that a source without a config replaces.
func bareImage(p ocispec.Platform) *dockerspec.DockerOCIImage {
	var img dockerspec.DockerOCIImage
	img.Platform = p
	img.RootFS.Type = "layers"
	return &img
}
