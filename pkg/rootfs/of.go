package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// Options say where [Of] finds what it needs.
type Options struct {
	// Indexes is asked for an index first and given those that had to be read. Nil: indexes
	// are read from the layers and forgotten.
	Indexes Indexes
	// TempDir is where contents are put when files are not read in the order of their layer.
	// Empty: os.TempDir.
	TempDir string
	// Contents, when not nil, is asked for the contents of a regular file before the layer
	// is: it may know a cheaper place, as a directory into which the layer was extracted. An error that
	// wraps fs.ErrNotExist says that it does not. It has to be safe for concurrent use.
	Contents func(diffID v1.Hash, rec *Record) (io.ReadCloser, error)
}

// Indexed is a layer that knows its index. [Of] asks it before it asks Options.Indexes.
type Indexed interface {
	v1.Layer
	// FileIndex may return nil.
	FileIndex() *Index
}

// Of returns the tree that layers make, the lowest layer first. Whiteouts and opaque
// directories hide what is below them (image-spec, layer.md). An implicit parent that is a
// link in the layers below is followed, as container engines do; a link that a directory
// has an entry for is replaced. Hard links are kept within their layer.
//
// Of gets the indexes of all layers; a layer's bytes are read only when its index is not known or
// when a file of it is opened. Bytes that do not have the layer's diff ID are an error. Close the tree to
// remove what it put in TempDir.
func Of(ctx context.Context, layers []v1.Layer, o Options) (*LayerTree, error) {
	empty := &LayerTree{root: impliedDir(), options: o}
	return empty.with(ctx, layers)
}

// With returns the tree with one more layer on top. It costs as much as the layer is large,
// however large the tree is. The caller closes both trees.
func (t *LayerTree) With(ctx context.Context, layer v1.Layer) (*LayerTree, error) {
	return t.with(ctx, []v1.Layer{layer})
}

func (t *LayerTree) with(ctx context.Context, layers []v1.Layer) (*LayerTree, error) {
	sources := make([]*source, len(layers))
	for i, l := range layers {
		id, err := l.DiffID()
		if err != nil {
			return nil, fmt.Errorf("read layers: %w", err)
		}
		sources[i] = &source{layer: l, diffID: id, options: t.options}
	}
	indexes, err := t.options.indexes(ctx, sources)
	if err != nil {
		return nil, err
	}
	n := &LayerTree{root: t.root, options: t.options, inodes: t.inodes, implicit: t.implicit, indexes: slices.Clone(t.indexes)}
	m := &merger{tree: n, owner: new(owner)}
	for i, x := range indexes {
		if err := m.add(x); err != nil {
			return nil, fmt.Errorf("read layer %v: %w", sources[i].diffID, err)
		}
		sources[i].end = x.end
	}
	n.sources = slices.Concat(t.sources, sources)
	for _, s := range n.sources {
		s.retain()
	}
	return n, nil
}

// indexes returns the indexes of the layers of sources, in their order. Several are read at
// once; the same layer is read once.
func (o Options) indexes(ctx context.Context, sources []*source) ([]*Index, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	list := make([]*Index, len(sources))
	first := make(map[v1.Hash]int, len(sources))
	for i, s := range sources {
		if _, twice := first[s.diffID]; twice {
			continue
		}
		first[s.diffID] = i
		group.Go(func() (err error) {
			list[i], err = o.index(ctx, s)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, s := range sources {
		list[i] = list[first[s.diffID]]
	}
	return list, nil
}

// index finds or reads one index.
func (o Options) index(ctx context.Context, s *source) (*Index, error) {
	if l, ok := s.layer.(Indexed); ok {
		if x := l.FileIndex(); x != nil {
			return x, nil
		}
	}
	if o.Indexes != nil {
		x, err := o.Indexes.Index(ctx, s.diffID)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return x, err
		}
	}
	x, err := indexOf(ctx, s.layer, s.diffID)
	if err == nil && o.Indexes != nil {
		err = o.Indexes.PutIndex(ctx, s.diffID, x)
	}
	if err != nil {
		return nil, fmt.Errorf("index layer %v: %w", s.diffID, err)
	}
	return x, nil
}

// indexOf reads the index from the layer. An index stands for its diff ID ever after, for
// every image that names it, so the bytes have to have it.
func indexOf(ctx context.Context, l v1.Layer, diffID v1.Hash) (*Index, error) {
	rc, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer rc.Close() // it was read only
	sum := sha256.New()
	x, err := ReadIndex(io.TeeReader(&contextReader{ctx: ctx, r: rc}, sum), nil)
	if err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != diffID.Hex {
		return nil, fmt.Errorf("layer's bytes have the digest sha256:%s", got)
	}
	return x, nil
}

// contextReader ends when ctx is done.
type contextReader struct {
	ctx context.Context //nolint:containedctx // the reader lives for one call
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
