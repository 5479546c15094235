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
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Owner is a user and a group.
type Owner = mark.Owner

// File is what a layer says of a file.
type File struct {
	Owner
	// Special says that the file cannot bear a mark.
	Special bool
}

// Layer returns the owners of the files of one layer by their paths.
type Layer func(ctx context.Context) (map[string]File, error)

// Of reads the owners from a layer's index, when they are first needed. indexes may be nil.
func Of(indexes rootfs.Indexes, l v1.Layer) Layer {
	var mu sync.Mutex
	var known map[string]File
	return func(ctx context.Context) (map[string]File, error) {
		mu.Lock()
		defer mu.Unlock()
		if known != nil {
			return known, nil
		}
		x, err := index(ctx, indexes, l)
		if err != nil {
			return nil, fmt.Errorf("read owners: %w", err)
		}
		known = filesOf(x)
		return known, nil
	}
}

// filesOf returns what an index says. The entry of a hard link says whose its file is from then on, under all its names.
func filesOf(x *rootfs.Index) map[string]File {
	known := make(map[string]File, x.Len())
	var links []*tar.Header
	for r := range x.All() {
		h := &r.Header
		known[h.Name] = fileOf(h)
		if h.Typeflag == tar.TypeLink {
			links = append(links, h)
		}
	}
	for _, h := range links {
		if first, ok := known[h.Linkname]; ok {
			first.Owner = Owner{UID: h.Uid, GID: h.Gid}
			known[h.Linkname], known[h.Name] = first, first
		}
	}
	return known
}

func fileOf(h *tar.Header) File {
	special := h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeLink
	return File{Owner{UID: h.Uid, GID: h.Gid}, special}
}

// Special returns the owners, by their paths, of files that cannot bear a mark and are not root's. The layers are in the order of an
// image; a file of one of them may have gone.
func Special(ctx context.Context, layers []Layer) (map[string]Owner, error) {
	out := make(map[string]Owner)
	for _, l := range layers {
		known, err := l(ctx)
		if err != nil {
			return nil, err
		}
		for name := range out {
			if _, again := known[name]; again {
				delete(out, name)
			}
		}
		for name, f := range known {
			if f.Special && f.Owner != (Owner{}) {
				out[name] = f.Owner
			}
		}
	}
	return out, nil
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

// Give gives files of which it is not known who should own them to the owners that they have in the layers below, which are in the
// order of an image, if they were there before, and others to root. The changes have to come with diff.Existed and diff.Owned.
//
// The owners that it returns are those in the changes. They are known when the changes have been consumed or
// abandoned.
func Give(ctx context.Context, changes snapshot.Changes, below []Layer) (snapshot.Changes, Layer) {
	given, done := make(map[string]File), make(chan struct{})
	stream := func(yield func(snapshot.Change, error) bool) {
		defer close(done)
		for c, err := range changes {
			if err == nil && c.Kind != snapshot.Delete {
				if c.Header.Typeflag == tar.TypeLink {
					// It is the same file, and unpacking a link may change the owner of what it leads to.
					first := given[c.Header.Linkname]
					c.Header.Uid, c.Header.Gid = first.UID, first.GID
					delete(c.Header.PAXRecords, diff.Existed)
					delete(c.Header.PAXRecords, diff.Owned)
				} else {
					err = give(ctx, &c, below)
				}
				given[c.Header.Name] = fileOf(c.Header)
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
	return stream, func(ctx context.Context) (map[string]File, error) {
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
	if h.PAXRecords[diff.Owned] != "" {
		delete(h.PAXRecords, diff.Owned)
		return nil
	}
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
