// Package owners knows who owns files where the disk cannot say, because this user has but one id.
package owners

import (
	"archive/tar"
	"context"
	"fmt"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Owner is a user and a group.
type Owner struct{ UID, GID int }

// Layer returns the owners of the files of one layer by their paths.
type Layer func(ctx context.Context) (map[string]Owner, error)

// Of reads the owners from a layer's index, when they are first needed. indexes may be nil.
func Of(indexes rootfs.Indexes, l v1.Layer) Layer {
	var mu sync.Mutex
	var known map[string]Owner
	return func(ctx context.Context) (map[string]Owner, error) {
		mu.Lock()
		defer mu.Unlock()
		if known != nil {
			return known, nil
		}
		x, err := index(ctx, indexes, l)
		if err != nil {
			return nil, fmt.Errorf("read owners: %w", err)
		}
		known = make(map[string]Owner, len(x.Records))
		for i := range x.Records {
			h := &x.Records[i].Header
			known[h.Name] = Owner{h.Uid, h.Gid}
		}
		return known, nil
	}
}

// index returns a layer's index, which it reads again if nobody has kept it.
func index(ctx context.Context, indexes rootfs.Indexes, l v1.Layer) (*rootfs.Index, error) {
	diffID, err := l.DiffID()
	if err != nil {
		return nil, err
	}
	if indexes != nil {
		if x, err := indexes.Index(ctx, diffID); err == nil {
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

// Give gives files that were there before the owners that they have in the layers below, which are in the
// order of an image, and others to root. The changes have to be marked with diff.Existed.
//
// The owners that it returns are those in the changes. They are known when the changes have been consumed or
// abandoned.
func Give(ctx context.Context, changes snapshot.Changes, below []Layer) (snapshot.Changes, Layer) {
	given, done := make(map[string]Owner), make(chan struct{})
	stream := func(yield func(snapshot.Change, error) bool) {
		defer close(done)
		for c, err := range changes {
			if err == nil && c.Kind != snapshot.Delete {
				if c.Header.Typeflag == tar.TypeLink {
					// It is the same file, and unpacking a link may change the owner of what it leads to.
					o := given[c.Header.Linkname]
					c.Header.Uid, c.Header.Gid = o.UID, o.GID
					delete(c.Header.PAXRecords, diff.Existed)
				} else {
					err = give(ctx, &c, below)
				}
				given[c.Header.Name] = Owner{c.Header.Uid, c.Header.Gid}
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
	return stream, func(ctx context.Context) (map[string]Owner, error) {
		select {
		case <-done:
			return given, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func give(ctx context.Context, c *snapshot.Change, below []Layer) error {
	h := c.Header
	h.Uid, h.Gid = 0, 0
	if h.PAXRecords[diff.Existed] == "" {
		return nil
	}
	delete(h.PAXRecords, diff.Existed)
	for _, l := range slices.Backward(below) {
		known, err := l(ctx)
		if err != nil {
			return err
		}
		if o, ok := known[h.Name]; ok {
			h.Uid, h.Gid = o.UID, o.GID
			return nil
		}
	}
	return nil
}
