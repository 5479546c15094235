package overlay

import (
	"context"
	"fmt"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// owner is a user and a group.
type owner struct{ uid, gid int }

// owners says who owns the files of one layer, where the files on disk cannot say. It is nil where they
// can.
type owners func(ctx context.Context) (map[string]owner, error)

// ownersOf reads the owners from a layer's index, when they are needed.
func (r *root) ownersOf(l v1.Layer) owners {
	if !r.s.worker.Squash() {
		return nil
	}
	var mu sync.Mutex
	var known map[string]owner
	return func(ctx context.Context) (map[string]owner, error) {
		mu.Lock()
		defer mu.Unlock()
		if known != nil {
			return known, nil
		}
		x, err := r.d.index(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("read owners: %w", err)
		}
		known = make(map[string]owner, len(x.Records))
		for i := range x.Records {
			h := &x.Records[i].Header
			known[h.Name] = owner{h.Uid, h.Gid}
		}
		return known, nil
	}
}

// index returns a layer's index, which it reads again if nobody has kept it.
func (d *Driver) index(ctx context.Context, l v1.Layer) (*rootfs.Index, error) {
	diffID, err := l.DiffID()
	if err != nil {
		return nil, err
	}
	if d.o.Indexes != nil {
		if x, err := d.o.Indexes.Index(ctx, diffID); err == nil {
			return x, nil
		}
	}
	body, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return rootfs.ReadIndex(body, nil)
}

// withOwners gives files that were there before the owners that they have in the layers below, and others to
// root. The owners that it returns are known when the changes have been consumed or abandoned.
func withOwners(ctx context.Context, changes snapshot.Changes, below []*layer) (snapshot.Changes, owners) {
	given, done := make(map[string]owner), make(chan struct{})
	stream := func(yield func(snapshot.Change, error) bool) {
		defer close(done)
		for c, err := range changes {
			if err == nil && c.Kind != snapshot.Delete {
				err = giveOwner(ctx, &c, below)
				given[c.Header.Name] = owner{c.Header.Uid, c.Header.Gid}
			}
			if err != nil {
				yield(snapshot.Change{}, err)
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
	return stream, func(ctx context.Context) (map[string]owner, error) {
		select {
		case <-done:
			return given, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func giveOwner(ctx context.Context, c *snapshot.Change, below []*layer) error {
	h := c.Header
	h.Uid, h.Gid = 0, 0
	if h.PAXRecords[diff.Existed] == "" {
		return nil
	}
	delete(h.PAXRecords, diff.Existed)
	for _, l := range slices.Backward(below) {
		known, err := l.owners(ctx)
		if err != nil {
			return err
		}
		if o, ok := known[h.Name]; ok {
			h.Uid, h.Gid = o.uid, o.gid
			return nil
		}
	}
	return nil
}
