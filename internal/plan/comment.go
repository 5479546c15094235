package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/moby/buildkit/util/suggest"
)

// commentPrefix begins a comment above an instruction that is meant for gobuild. Other builders pass over it.
const commentPrefix = "gobuild:"

// comments are what comments above an instruction ask for.
type comments struct {
	// ttl is how old a cached result of the step may be; nil is what holds for all.
	ttl *time.Duration
}

// readComments reads lines of the form "gobuild: key=value", without the "#".
func readComments(lines []string) (comments, error) {
	var c comments
	for _, line := range lines {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), commentPrefix)
		if !ok {
			continue
		}
		for _, field := range strings.Fields(text) {
			key, value, _ := strings.Cut(field, "=")
			if key != "cache-ttl" {
				return c, suggest.WrapError(fmt.Errorf("unknown key %q in comment %q", key, strings.TrimSpace(line)), key, []string{"cache-ttl"}, true)
			}
			ttl, err := time.ParseDuration(value)
			if err != nil || ttl < 0 {
				return c, fmt.Errorf("cache-ttl %q is not a duration such as 24h", value)
			}
			c.ttl = &ttl
		}
	}
	return c, nil
}

// noCache tells whether Options.NoCacheFilter names s.
func (g *graph) noCache(s *stage) bool {
	for _, name := range g.opts.NoCacheFilter {
		if strings.EqualFold(name, s.spec.Name) {
			return true
		}
	}
	return false
}
