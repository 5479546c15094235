package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/inline"
	"github.com/gobuild-dev/gobuild/pkg/registry"
)

// Image finds results of steps in an image that a build with an inline cache has pushed (see package inline), or in the images
// of an index. It implements cache.Store, and takes nothing.
//
// Manifests and configs are fetched with the first look-up; the others cost no request. An image that is not there, or has no
// inline cache, has no results, which is no trouble: before the first build there is none.
type Image struct {
	client *registry.Client
	ref    string
	first  v1.Platform
	o      Options

	mu      sync.Mutex
	looking *look
	results *results // nil until a look was good for something
}

// look is one attempt to read the image.
type look struct {
	done chan struct{}
	err  error // once done is closed
}

// results is what an image has.
type results struct {
	entries map[cache.Key]cache.Entry
	missing error // why nothing else is there
	trouble error // to be told to the next who misses something
}

var _ cache.Store = (*Image)(nil)

// OpenImage returns the results in the image that ref names, the tag being latest when it has none, without asking the registry.
// Of an index's images that have a result, those that run on p are preferred. The image is read by the rules for pulling,
// unless o says otherwise, and o.Timeout bounds the one look at it. Layers that are found can be read until c is closed.
func OpenImage(c *registry.Client, ref string, p v1.Platform, o Options) (*Image, error) {
	if _, err := registry.ParseReference(ref); err != nil {
		return nil, fmt.Errorf("open inline cache: %w", err)
	}
	if o.Direction == "" {
		o.Direction = registry.Pull
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	return &Image{client: c, ref: ref, first: p, o: o}, nil
}

// String is the reference, for messages.
func (i *Image) String() string { return i.ref }

// Get implements cache.Store. An inline cache that is damaged is told of once, and is none then.
func (i *Image) Get(ctx context.Context, k cache.Key) (cache.Entry, error) {
	for {
		e, l, err := i.known(ctx, k)
		if l == nil {
			return e, err
		}
		select {
		case <-l.done:
			if l.err != nil {
				return cache.Entry{}, l.err
			}
		case <-ctx.Done():
			return cache.Entry{}, context.Cause(ctx)
		}
	}
}

// known answers from what is known of the image, or begins to look at it, which is to be waited for then.
func (i *Image) known(ctx context.Context, k cache.Key) (cache.Entry, *look, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.results == nil {
		if i.looking == nil {
			i.looking = &look{done: make(chan struct{})}
			// Who asks first may find the result elsewhere and go, which is no reason to begin again for the next.
			go i.look(context.WithoutCancel(ctx), i.looking)
		}
		return cache.Entry{}, i.looking, nil
	}
	r := i.results
	e, ok := r.entries[k]
	switch {
	case !ok && r.trouble != nil:
		err := r.trouble
		r.trouble = nil
		return cache.Entry{}, nil, err
	case !ok:
		return cache.Entry{}, nil, r.missing
	case e.Layer != nil:
		e.Layer = marked(e.Layer, k)
	}
	return e, nil, nil
}

// look reads the image. After an error another look may end better.
func (i *Image) look(ctx context.Context, l *look) {
	ctx, cancel := context.WithTimeoutCause(ctx, i.o.Timeout, errSlow)
	defer cancel()
	r, err := i.read(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.results, i.looking = r, nil
	l.err = err
	close(l.done)
}

func (i *Image) read(ctx context.Context) (*results, error) {
	images, err := i.client.Images(ctx, i.ref, i.o.Direction, i.first)
	r := &results{entries: map[cache.Key]cache.Entry{}}
	switch {
	case len(images) > 0:
		r.missing = cache.Miss(fmt.Errorf("it is not in the inline cache of %q", i.ref))
	case registry.NotFound(err):
		r.missing = cache.Miss(err)
		return r, nil
	case err != nil:
		return nil, readError(err)
	default:
		r.missing = cache.Miss(fmt.Errorf("%q is no image", i.ref))
	}
	r.trouble = err
	for _, img := range images {
		entries, err := inline.Entries(img)
		if err != nil && r.trouble == nil {
			r.trouble = fmt.Errorf("image %q: %w", i.ref, err)
		}
		for k, e := range entries {
			if _, known := r.entries[k]; !known {
				r.entries[k] = e
			}
		}
	}
	return r, nil
}

// Put implements cache.Store. An image is pushed whole.
func (i *Image) Put(context.Context, cache.Key, cache.Entry) error {
	return fmt.Errorf("put cache entry into image %q: %w", i.ref, errors.ErrUnsupported)
}
