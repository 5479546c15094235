package push

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// RootDir returns an exporter of the image's root filesystem to a directory, as BuildKit's local exporter writes it: modes,
// times, links and extended attributes are those of the image, but every file belongs to the user who exports,
// even if that is root, and the time of all files is the artifact's Epoch if it has one. What is in the directory already stays, unless the image has something else of that name. The directory is
// made when it does not exist; its own metadata stay as they are.
//
// Nothing is written through a symbolic link, neither of the image nor of what was there. Files appear under
// their names when they are whole; when the export fails, those that came before it stay. o says where the
// contents are found.
func RootDir(dest string, o rootfs.Options) Exporter { return &toDir{dest: dest, o: o} }

type toDir struct {
	dest string
	o    rootfs.Options
}

// Export implements Exporter.
func (e *toDir) Export(ctx context.Context, a Artifact) ([]Receipt, error) {
	digest, err := withTree(ctx, a, e.o, func(t *rootfs.LayerTree) error { return e.write(ctx, t, a.Epoch) })
	if err != nil {
		return nil, fmt.Errorf("write root filesystem to %q: %w", e.dest, err)
	}
	return []Receipt{{Name: e.dest, Digest: digest}}, nil
}

func (e *toDir) write(ctx context.Context, t *rootfs.LayerTree, epoch time.Time) (err error) {
	if err := os.MkdirAll(e.dest, 0o700); err != nil {
		return err
	}
	d, err := openDirectory(e.dest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	w := &dirWriter{dir: d, tree: t, epoch: epoch, first: map[uint64]string{}}
	// Directories and what has no contents come in the order of the tree.
	err = rootfs.Walk(t, ".", func(name string, e *rootfs.Entry) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return w.visit(name, e)
	})
	if err != nil {
		return err
	}
	return w.finish(ctx)
}

// dirWriter brings a tree into a directory.
type dirWriter struct {
	dir   *directory
	tree  *rootfs.LayerTree
	epoch time.Time // of all files, when not zero
	dirs  []named   // whose metadata come last, since what is written into them changes their times
	files []placed
	links []link
	first map[uint64]string // name of each file with several
}

type named struct {
	name string
	h    *tar.Header
}

// placed is a regular file with the place of its contents.
type placed struct {
	named
	layer  int
	offset int64
}

type link struct{ name, target string }

// at is h with the time epoch, when that is not zero.
func at(h *tar.Header, epoch time.Time) *tar.Header {
	if epoch.IsZero() {
		return h
	}
	dated := *h
	dated.ModTime = epoch
	return &dated
}

func (w *dirWriter) visit(name string, e *rootfs.Entry) error {
	if name == "." {
		return nil
	}
	h := at(e.Header, w.epoch)
	if h.Typeflag == tar.TypeDir {
		w.dirs = append(w.dirs, named{name, h})
		return w.dir.mkdir(name)
	}
	if e.Inode != 0 {
		if first, seen := w.first[e.Inode]; seen {
			w.links = append(w.links, link{name, first})
			return nil
		}
		w.first[e.Inode] = name
	}
	if h.Typeflag != tar.TypeReg {
		return w.dir.special(name, h)
	}
	layer, rec, err := w.tree.Origin(name)
	if err != nil {
		return err
	}
	f := placed{named: named{name, h}, layer: layer}
	if rec != nil {
		f.offset = rec.Offset
	}
	w.files = append(w.files, f)
	return nil
}

// finish writes contents in the order in which they lie in the layers, so that each layer is read once, then the further
// names, and the metadata of directories from the deepest up.
func (w *dirWriter) finish(ctx context.Context) error {
	slices.SortFunc(w.files, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.offset, b.offset))
	})
	for _, f := range w.files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.dir.file(f.name, f.h, w.tree); err != nil {
			return err
		}
	}
	for _, l := range w.links {
		if err := w.dir.link(l.name, l.target); err != nil {
			return err
		}
	}
	for _, d := range slices.Backward(w.dirs) {
		if err := w.dir.dirMetadata(d.name, d.h); err != nil {
			return err
		}
	}
	return nil
}
