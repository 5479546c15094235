package cache

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Item is something that a backend keeps, for listings.
type Item struct {
	// Name is what the backend calls it: the key in hexadecimal digits, "index-" and the diff ID's of the file
	// index of a layer, or "note-" and a note's name.
	Name string
	// Key is zero when the item is no entry.
	Key     Key
	Created time.Time
	Step    string
	// Layer is nil when there is none.
	Layer *LayerRecord
	// Size is in bytes, of all that the item refers to. Items may share bytes.
	Size int64
	// Problem is why the item is of no use, such as damage; empty otherwise.
	Problem string
	// Ref is the backend's own handle.
	Ref string
}

// Keeper is a backend whose contents can be listed and removed. It is safe for concurrent use, beside builds too: what they
// put meanwhile stays.
type Keeper interface {
	// List returns all items, in no particular order.
	List(ctx context.Context) ([]Item, error)
	// Delete removes items that List returned, and what only they referred to, where the backend does that.
	// An item that is gone already is no error.
	Delete(ctx context.Context, items []Item) error
}

// PruneOptions say what [Prune] keeps. With both zero nothing is kept.
type PruneOptions struct {
	// KeepFor keeps what was created within this time.
	KeepFor time.Duration
	// KeepBytes keeps the latest up to this size; bytes that several items share count once.
	KeepBytes int64
}

// Pruned says what Prune did, in items and bytes; bytes that several items share count once.
type Pruned struct {
	Items, Kept      int
	Bytes, BytesKept int64
}

// Prune removes what o does not keep, the oldest first.
func Prune(ctx context.Context, b Keeper, o PruneOptions) (Pruned, error) {
	items, err := b.List(ctx)
	if err != nil {
		return Pruned{}, err
	}
	drop, p := o.split(items, time.Now())
	return p, b.Delete(ctx, drop)
}

// split returns the items that have to go.
func (o PruneOptions) split(items []Item, now time.Time) (drop []Item, p Pruned) {
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Size, b.Size), cmp.Compare(a.Name, b.Name))
	})
	keep := sizes{}
	gone := sizes{}
	full := o.KeepFor == 0 && o.KeepBytes == 0
	for _, it := range items {
		if o.KeepFor > 0 && now.Sub(it.Created) > o.KeepFor {
			full = true
		}
		if o.KeepBytes > 0 && p.BytesKept+keep.more(it) > o.KeepBytes {
			full = true
		}
		if full || it.Problem != "" {
			drop = append(drop, it)
			if keep.more(it) > 0 {
				p.Bytes += gone.add(it)
			}
		} else {
			p.Kept++
			p.BytesKept += keep.add(it)
		}
	}
	p.Items = len(drop)
	slices.Reverse(drop)
	return drop, p
}

// sizes knows which layers have been counted.
type sizes map[string]bool

func (s sizes) more(it Item) int64 {
	if it.Layer != nil && s[it.Layer.Digest.String()] {
		return 0
	}
	return it.Size
}

func (s sizes) add(it Item) int64 {
	n := s.more(it)
	if it.Layer != nil {
		s[it.Layer.Digest.String()] = true
	}
	return n
}
