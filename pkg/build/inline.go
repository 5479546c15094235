package build

import (
	"encoding/json"
	"errors"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/solve"
	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/inline"
)

// inlineCache is what the image's config says of its layers for later builds; nil unless that is asked for.
func (o Options) inlineCache(layers []solve.Layer) (map[string]json.RawMessage, error) {
	if !o.InlineCache {
		return nil, nil
	}
	all := make([]v1.Layer, len(layers))
	var steps []inline.Step
	for i, l := range layers {
		all[i] = l.Layer
		if k := l.Kept; k != nil && o.keeps(k.Kind) {
			steps = append(steps, inline.Step{
				Layer: i, Definition: k.Definition, Content: k.Content, Linked: k.Linked, Empty: k.Empty,
			})
		}
	}
	if old := time.Since(o.Epoch); len(steps) > 0 && !o.Epoch.IsZero() && o.CacheTTL > 0 && old >= o.CacheTTL {
		o.warnCache(errors.New("the results in the image's inline cache are as old as SOURCE_DATE_EPOCH, which is too old to be " +
			"used: later builds want a longer --cache-ttl"))
	}
	field, err := inline.Encode(all, steps)
	return map[string]json.RawMessage{inline.Field: field}, err
}

// keeps says whether results of this kind are kept in other places than the work directory.
func (o Options) keeps(k cache.Kind) bool {
	return (k != cache.KindRun || !o.NoCacheRuns) && (k != cache.KindCopy || !o.NoCacheCopies)
}
