package overlay

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/step"
)

var _ step.Source = (*root)(nil)

// spec describes the mount for the next process.
func (r *root) spec() (process.Spec, error) {
	o, err := r.writable()
	if err != nil {
		return process.Spec{}, err
	}
	return process.Spec{Mount: r.path("mnt"), Box: r.path("box"), Root: process.Tree{Overlay: o}}, nil
}

// Tree implements step.Source.
func (r *root) Tree(_ context.Context, writable bool) (process.Tree, error) {
	if err := r.usable(); err != nil {
		return process.Tree{}, err
	}
	if !writable {
		return r.readable(), nil
	}
	o, err := r.writable()
	return process.Tree{Overlay: o}, err
}

// readable is the root as it is. Without an upper directory there may be any number of mounts.
func (r *root) readable() process.Tree {
	r.mu.Lock()
	defer r.mu.Unlock()
	lower := r.lower()
	if r.upper != "" {
		lower = append([]string{r.upper}, lower...)
	}
	switch len(lower) {
	case 0:
		return process.Tree{Dir: filepath.Join(r.s.dir, "empty")}
	case 1:
		lower = append(lower, emptyLayer) // overlayfs takes no fewer than two
	}
	return process.Tree{Overlay: process.Overlay{Dir: filepath.Join(r.s.dir, "data"), Lower: lower}}
}

// writable is the mount of the root whose upper directory becomes a layer.
func (r *root) writable() (process.Overlay, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.upper == "" {
		id, err := r.s.newData()
		if err != nil {
			return process.Overlay{}, err
		}
		r.upper = id
	}
	// A volatile overlay leaves a mark in its work directory, so that each mount needs its own.
	r.runs++
	work := r.path("work" + strconv.Itoa(r.runs))
	if err := os.Mkdir(work, 0o755); err != nil {
		return process.Overlay{}, fmt.Errorf("make work directory: %w", err)
	}
	lower := r.lower()
	if len(lower) == 0 {
		lower = []string{emptyLayer}
	}
	return process.Overlay{
		Dir: filepath.Join(r.s.dir, "data"), Lower: lower, Upper: r.upper,
		Work: filepath.Join("..", "roots", r.id, filepath.Base(work)),
	}, nil
}

// emptyLayer is the path of the layer below the first one, beside the others.
const emptyLayer = "../empty"

// lower returns the directories of the layers, the topmost first.
func (r *root) lower() []string {
	ids := r.ids()
	slices.Reverse(ids)
	return ids
}
