package solve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// tree returns the files of layers, waiting until all of them are written. It is made once, and from the tree of
// the layers below where there is one: a stage of a hundred copies would otherwise merge, and keep, its base's files a
// hundred times.
func (s *solver) tree(ctx context.Context, layers *stack) (*rootfs.LayerTree, error) {
	s.mu.Lock()
	f := s.trees[layers]
	mine := f == nil
	if mine {
		f = newFuture[*rootfs.LayerTree]()
		s.trees[layers] = f
	}
	s.mu.Unlock()
	if mine {
		t, err := s.makeTree(ctx, layers)
		if err != nil {
			err = fmt.Errorf("list files of layers: %w", err)
		}
		f.set(t, err)
	}
	return f.wait(ctx)
}

func (s *solver) makeTree(ctx context.Context, layers *stack) (*rootfs.LayerTree, error) {
	if layers != nil && s.hasTree(layers.below) {
		below, err := s.tree(ctx, layers.below)
		if err != nil {
			return nil, err
		}
		top, err := layers.top.wait(ctx)
		if err != nil {
			return nil, err
		}
		return below.With(ctx, top.Layer)
	}
	list, err := layers.wait(ctx)
	if err != nil {
		return nil, err
	}
	return rootfs.Of(ctx, list, rootfs.Options{Indexes: s.o.Indexes, TempDir: s.o.Layer.Dir, Contents: s.contents})
}

// contents gives the contents of a file from where a sandbox has it on disk already.
func (s *solver) contents(diffID v1.Hash, rec *rootfs.Record) (io.ReadCloser, error) {
	if reader, ok := s.roots.inUse().(sandbox.Reader); ok {
		return reader.Contents(diffID, rec)
	}
	return nil, fs.ErrNotExist
}

// hasTree says whether the tree of layers, or of some layers of theirs, is there or in the making.
func (s *solver) hasTree(layers *stack) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; layers != nil; layers = layers.below {
		if s.trees[layers] != nil {
			return true
		}
	}
	return false
}

func (s *solver) closeTrees() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, f := range s.trees {
		if f.value != nil {
			err = errors.Join(err, f.value.Close())
		}
	}
	return err
}
