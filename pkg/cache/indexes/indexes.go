// Package indexes keeps file indexes of layers in several places, as a build does that has a work directory and caches that
// other machines share: where one of them knows the index, the layer need not be fetched.
package indexes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Options say where indexes are kept.
type Options struct {
	// Near is asked first, and gets what is found elsewhere.
	Near rootfs.Indexes
	// From are asked all at once when Near does not know an index; the first in order wins.
	From []Place
	// To are given what is put, while the caller goes on.
	To []Place
	// Report is told of the trouble of From and To, which is never an error. It has to be safe for concurrent use.
	Report func(error)
}

// Place keeps indexes until Breaker, which others of the same backend may share, gives it up.
type Place struct {
	rootfs.Indexes
	Breaker *cache.Breaker
}

// Indexes keeps indexes in several places. It implements rootfs.Indexes.
type Indexes struct {
	near     rootfs.Indexes
	from, to []Place
	report   func(error)

	wg   sync.WaitGroup
	life context.Context //nolint:containedctx // what is under way outlives the call that began it
}

var _ rootfs.Indexes = (*Indexes)(nil)

// New returns the indexes of o. The caller calls Wait. Puts under way end with ctx.
func New(ctx context.Context, o Options) *Indexes {
	return &Indexes{near: o.Near, from: o.From, to: o.To, report: o.Report, life: ctx}
}

// Wait returns when everything has been put.
func (x *Indexes) Wait() { x.wg.Wait() }

// Index implements rootfs.Indexes.
func (x *Indexes) Index(ctx context.Context, diffID v1.Hash) (*rootfs.Index, error) {
	found, err := x.near.Index(ctx, diffID)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	if found = x.ask(ctx, diffID); found == nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return found, x.near.PutIndex(ctx, diffID, found)
}

// ask returns nil when nobody has the index.
func (x *Indexes) ask(ctx context.Context, diffID v1.Hash) *rootfs.Index {
	// Whoever comes later in order need not answer once the winner is known.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make([]chan *rootfs.Index, len(x.from))
	for i, p := range x.from {
		answers[i] = make(chan *rootfs.Index, 1)
		go func() {
			var found *rootfs.Index
			_, err := p.Breaker.Reading(ctx, func(ctx context.Context) (err error) {
				found, err = p.Index(ctx, diffID)
				if errors.Is(err, fs.ErrNotExist) {
					err = cache.Miss(err)
				}
				return err
			})
			x.tell(ctx, err)
			answers[i] <- found
		}()
	}
	for _, ch := range answers {
		if found := <-ch; found != nil {
			return found
		}
	}
	return nil
}

// tell reports trouble.
func (x *Indexes) tell(ctx context.Context, err error) {
	if err != nil && !errors.Is(err, cache.ErrMiss) && context.Cause(ctx) == nil {
		x.report(err)
	}
}

// PutIndex implements rootfs.Indexes. It returns when Near has the index.
func (x *Indexes) PutIndex(ctx context.Context, diffID v1.Hash, index *rootfs.Index) error {
	for _, p := range x.to {
		x.wg.Go(func() {
			_, err := p.Breaker.Writing(x.life, func(ctx context.Context) error { return p.PutIndex(ctx, diffID, index) })
			x.tell(x.life, err)
		})
	}
	if err := x.near.PutIndex(ctx, diffID, index); err != nil {
		return fmt.Errorf("keep index of layer %v: %w", diffID, err)
	}
	return nil
}
