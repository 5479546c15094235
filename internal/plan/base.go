package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/util/suggest"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// maxLookups is how many base images are asked for at once.
const maxLookups = 16

// ociLayout begins a reference to an image in a directory. Everything else is a reference to a registry.
const ociLayout = "oci-layout://"

// origin is what a stage begins with when that is no other stage.
type origin struct {
	// op is the first step; nil for an image, which is pulled.
	op     Op
	ref    string // of an image
	digest v1.Hash
	config *dockerspec.DockerOCIImage
	// empty: the image has no layers.
	empty bool
	name  string // of the step
}

// resolver asks Bases for each image once. It is safe for concurrent use.
type resolver struct {
	bases Bases
	mu    sync.Mutex
	known map[string]*lookup
}

type lookup struct {
	once sync.Once
	base Base
	err  error
}

func (r *resolver) base(ctx context.Context, ref string, p ocispec.Platform) (Base, error) {
	key := ref + " " + platforms.FormatAll(p)
	r.mu.Lock()
	l := r.known[key]
	if l == nil {
		l = new(lookup)
		r.known[key] = l
	}
	r.mu.Unlock()
	l.once.Do(func() {
		if r.bases == nil {
			l.err = errors.New("no way to find base images was given")
			return
		}
		l.base, l.err = r.bases.Base(ctx, ref, toV1(p))
	})
	return l.base, l.err
}

// resolve finds the bases of everything that target needs. Images may bring ONBUILD triggers, which may need more
// stages and images, so it goes on until nothing is added.
func (g *graph) resolve(ctx context.Context, target *stage) (map[*stage]bool, error) {
	for {
		needed := reachable(target)
		looked := needed
		if g.opts.allStages {
			looked = allOf(g.stages)
		}
		if err := g.findOrigins(ctx, looked); err != nil {
			return nil, err
		}
		again := false
		for _, s := range slices.Clone(g.stages) {
			if !needed[s] {
				continue
			}
			more, err := g.pullTriggers(s)
			if err != nil {
				return nil, err
			}
			again = again || more
		}
		if !again {
			return needed, nil
		}
	}
}

func allOf(stages []*stage) map[*stage]bool {
	all := make(map[*stage]bool, len(stages))
	for _, s := range stages {
		all[s] = true
	}
	return all
}

// findOrigins finds what the needed stages begin with. References are checked in all stages, as BuildKit does.
func (g *graph) findOrigins(ctx context.Context, needed map[*stage]bool) error {
	var group errgroup.Group
	group.SetLimit(maxLookups)
	var found []*stage
	for _, s := range g.stages {
		if s.base != nil || s.from != nil {
			continue
		}
		from, err := g.originOf(s, needed[s])
		if err != nil {
			return g.file.Error(s.spec.Location, err)
		}
		s.from = from
		if from == nil || from.ref == "" {
			continue
		}
		found = append(found, s)
		group.Go(func() error { return g.lookUp(ctx, s) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, s := range found {
		g.nameOrigin(s)
	}
	return nil
}

// originOf is what s begins with, without the config of an image; nil for an image that is not needed.
func (g *graph) originOf(s *stage, needed bool) (*origin, error) {
	if s.spec.BaseName == scratch && s.context == nil {
		s.platform = &g.targetPlatform
		return &origin{op: Scratch{}, config: emptyImage(*s.platform), name: "FROM " + scratch}, nil
	}
	var ref string
	if s.context == nil {
		var err error
		if ref, err = normalizeRef(s.spec.BaseName); err != nil {
			return nil, fmt.Errorf("parse stage name %q: %w", s.spec.BaseName, err)
		}
	}
	if !needed {
		return nil, nil
	}
	if s.platform == nil {
		s.platform = &g.targetPlatform
	}
	if s.context == nil {
		return &origin{ref: ref}, nil
	}
	from, err := s.context.origin(*s.platform)
	if err == nil && s.replaced && from.ref == "" {
		from.config = bareImage(*s.platform)
	}
	return from, err
}

func normalizeRef(name string) (string, error) {
	if strings.HasPrefix(name, ociLayout) {
		return name, nil
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", err
	}
	return reference.TagNameOnly(ref).String(), nil
}

// lookUp fills in the origin of s.
func (g *graph) lookUp(ctx context.Context, s *stage) error {
	fail := func(err error) error {
		err = g.file.Error(s.spec.Location, err)
		g.cancel(err)
		return err
	}
	base, err := g.resolver.base(ctx, s.from.ref, *s.platform)
	if err != nil {
		name := s.spec.BaseName
		return fail(suggest.WrapError(fmt.Errorf("resolve base image %s: %w", name, err), name, append(g.stageNames(), commonImages()...), true))
	}
	var img dockerspec.DockerOCIImage
	if err := json.Unmarshal(base.Config, &img); err != nil {
		return fail(fmt.Errorf("parse config of base image %s: %w", s.spec.BaseName, err))
	}
	s.from.digest = base.Digest
	s.from.empty = len(img.RootFS.DiffIDs) == 0 && !slices.ContainsFunc(img.History, func(h ocispec.History) bool { return !h.EmptyLayer })
	img.Created = nil
	img.RootFS = ocispec.RootFS{Type: "layers"}
	s.from.config = &img
	return nil
}

// nameOrigin names the step, in the order of the file: names count up.
func (g *graph) nameOrigin(s *stage) {
	if s.context != nil {
		return // it has its name
	}
	ref := s.from.ref
	if s.from.digest != (v1.Hash{}) {
		ref, _, _ = strings.Cut(ref, "@")
		ref += "@" + s.from.digest.String()
	}
	if s.from.empty {
		s.from.name = "FROM " + ref
		return
	}
	s.from.name = g.stepName(s, "FROM "+ref, nil)
	g.lintBasePlatform(s)
}

// commonImages are names that a misspelt one may have meant.
func commonImages() []string {
	var names []string
	for _, n := range []string{"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"} {
		names = append(names, n, n+":latest")
	}
	return names
}

// pullTriggers puts the ONBUILD instructions of s's base in front of those of s. It reports whether they
// need other stages or images.
func (g *graph) pullTriggers(s *stage) (bool, error) {
	if s.triggersRead {
		return false, nil
	}
	s.triggersRead = true
	var texts []string
	if s.base == nil {
		texts = s.from.config.Config.OnBuild
		s.from.config.Config.OnBuild = nil
	} else {
		for _, c := range s.base.commands {
			if c, ok := c.Command.(*instructions.OnbuildCommand); ok {
				texts = append(texts, c.Expression)
			}
		}
	}
	if s.external {
		return false, nil
	}
	var triggers []command
	more := false
	for _, text := range texts {
		if err := g.budget.spend(len(text)); err != nil {
			return false, g.file.Error(s.spec.Location, err)
		}
		c, err := g.file.Trigger(text, s.spec.Location)
		if err != nil {
			return false, err
		}
		cmd, err := g.link(s, command{Command: c, trigger: true})
		if err != nil {
			return false, err
		}
		more = more || len(cmd.sources) > 0
		if c, ok := c.(*instructions.ArgCommand); ok {
			for _, a := range c.Args {
				g.declared[a.Key] = true
			}
		}
		triggers = append(triggers, cmd)
	}
	s.commands = append(triggers, s.commands...)
	s.total += len(triggers)
	return more, nil
}

// emptyImage is the image of FROM scratch.
func emptyImage(p ocispec.Platform) *dockerspec.DockerOCIImage {
	var img dockerspec.DockerOCIImage
	img.Platform = p
	img.RootFS.Type = "layers"
	img.Config.WorkingDir = "/"
	img.Config.Env = []string{"PATH=" + defaultPath}
	return &img
}

func toV1(p ocispec.Platform) v1.Platform {
	return v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

func fromV1(p v1.Platform) ocispec.Platform {
	return platforms.Normalize(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures})
}
