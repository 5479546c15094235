package assemble

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unknownLayer is the comment of history entries for layers that no history tells of, as BuildKit writes it.
const unknownLayer = "buildkit.exporter.image.v0"

// history returns entries that match layers one to one where they are not empty, all with a time if there is any.
//
// Tools attribute layers to entries by counting, and bases with a history that does not match their
// layers exist: entries too many are made empty, from the oldest, and entries that are missing are added.
func history(entries []ocispec.History, layers []Layer, epoch time.Time) []ocispec.History {
	out := append([]ocispec.History(nil), entries...)
	full := 0
	for _, h := range out {
		if !h.EmptyLayer {
			full++
		}
	}
	for i := range out {
		if full <= len(layers) {
			break
		}
		if !out[i].EmptyLayer {
			out[i].EmptyLayer = true
			full--
		}
	}
	for ; full < len(layers); full++ {
		out = append(out, ocispec.History{Comment: unknownLayer})
	}
	setLayerTimes(out, layers, epoch)
	fillTimes(out, epoch)
	return out
}

// setLayerTimes gives entries of new layers the time of their layer, or epoch when it is not zero: a layer may come
// from a build that had none.
func setLayerTimes(entries []ocispec.History, layers []Layer, epoch time.Time) {
	next := 0
	for i := range entries {
		if entries[i].EmptyLayer {
			continue
		}
		if created := layers[next].Created; !created.IsZero() {
			if created = created.UTC(); !epoch.IsZero() {
				created = epoch
			}
			entries[i].Created = &created
		}
		next++
	}
}

// fillTimes gives entries without a time one, as BuildKit does: epoch when it is not zero, and otherwise the first of
// them that of the first entry after it that has one, so that nothing new looks as old as the base, and later
// ones that of the entry before. Only an image with no new layer takes the base's time, and one that has no time at
// all stays without. Thus a rebuild from the cache has the times of the first build.
func fillTimes(entries []ocispec.History, epoch time.Time) {
	firstGap := 0
	for firstGap < len(entries) && entries[firstGap].Created != nil {
		firstGap++
	}
	at := firstTime(entries[firstGap:])
	if at == nil && firstGap > 0 {
		at = entries[firstGap-1].Created
	}
	for i := firstGap; i < len(entries); i++ {
		switch {
		case entries[i].Created != nil:
			at = entries[i].Created
		case !epoch.IsZero():
			entries[i].Created = &epoch
		default:
			entries[i].Created = at
		}
	}
}

// firstTime is the time of the first entry that has one, or nil.
func firstTime(entries []ocispec.History) *time.Time {
	for _, h := range entries {
		if h.Created != nil {
			return h.Created
		}
	}
	return nil
}
