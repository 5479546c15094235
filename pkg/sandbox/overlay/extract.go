package overlay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
)

// extraction is the extraction of one layer, which several roots may be waiting for.
type extraction struct {
	done chan struct{}
	id   string // the directory, when err is nil
	err  error
}

// layer returns the directory of a layer, which it extracts unless that was done before. lower returns the
// directories of the layers below, the topmost first; it is called when they are needed.
func (d *Driver) layer(ctx context.Context, s *store, chain v1.Hash, layer v1.Layer, lower func() ([]string, error)) (string, error) {
	for {
		if id, ok := s.find(chain); ok {
			return id, nil
		}
		d.mu.Lock()
		x := d.running[chain]
		mine := x == nil
		if mine {
			x = &extraction{done: make(chan struct{})}
			d.running[chain] = x
		}
		d.mu.Unlock()
		if mine {
			x.id, x.err = d.extractLayer(ctx, s, chain, layer, lower)
			d.mu.Lock()
			delete(d.running, chain)
			d.mu.Unlock()
			close(x.done)
			return x.id, x.err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-x.done:
		}
		if x.err == nil {
			return x.id, nil
		}
		// It may have failed only because nobody else wanted it any more; the next attempt is our own.
	}
}

// extractLayer extracts a layer and makes it known by its chain ID.
func (d *Driver) extractLayer(ctx context.Context, s *store, chain v1.Hash, layer v1.Layer, lower func() ([]string, error)) (string, error) {
	id, err := d.extract(ctx, s, layer, lower)
	if err != nil {
		return "", err
	}
	kept, err := s.publish(chain, id)
	if err != nil || kept != id {
		err = errors.Join(err, s.worker.Remove(context.WithoutCancel(ctx), []string{s.data(id)}))
	}
	return kept, err
}

// extract extracts a layer into a new directory, which is gone after an error.
func (d *Driver) extract(ctx context.Context, s *store, layer v1.Layer, lower func() ([]string, error)) (id string, err error) {
	diffID, err := layer.DiffID()
	if err != nil {
		return "", fmt.Errorf("extract layer: %w", err)
	}
	if id, err = s.newData(); err != nil {
		return "", fmt.Errorf("extract layer %s: %w", diffID, err)
	}
	err = s.worker.Extract(ctx, layer, s.data(id), d.o.Indexes, func() (*union.View, error) {
		dirs, err := lower()
		return &union.View{Dirs: dirs, UserXattr: s.worker.UserXattr()}, err
	})
	if err != nil {
		err = errors.Join(err, s.worker.Remove(context.WithoutCancel(ctx), []string{s.data(id)}))
		return "", fmt.Errorf("extract layer %s: %w", diffID, err)
	}
	return id, nil
}

// chainIDs returns the chain ID of each layer: the name of it with all that is below it.
func chainIDs(layers []v1.Layer) ([]v1.Hash, error) {
	out := make([]v1.Hash, len(layers))
	var below v1.Hash
	for i, l := range layers {
		diffID, err := l.DiffID()
		if err != nil {
			return nil, fmt.Errorf("read diff ID of layer %d: %w", i+1, err)
		}
		below = chainID(below, diffID)
		out[i] = below
	}
	return out, nil
}

func chainID(below, diffID v1.Hash) v1.Hash {
	if below == (v1.Hash{}) {
		return diffID
	}
	sum := sha256.Sum256([]byte(below.String() + " " + diffID.String()))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// paths returns the directories of ids, which are in the order of layers, topmost first.
func (s *store) paths(ids []string) []string {
	out := make([]string, 0, len(ids))
	for _, id := range slices.Backward(ids) {
		out = append(out, s.data(id))
	}
	return out
}
