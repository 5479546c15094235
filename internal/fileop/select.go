package fileop

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/gobuild-dev/gobuild/internal/decompress"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Selection is what a Copy copies. Its methods are called from one goroutine at a time.
type Selection struct {
	copy   Copy
	chmod  chmod
	owner  ownerSpec
	items  []*item
	spools []*os.File // contents of unpacked archives
}

// item is one file or directory that a source names, with what is in it.
type item struct {
	src *Source
	// name is what the file is called when it lands in a directory: the last component of the
	// path as it was written, even when that is a link.
	name string
	// path is where the file is in the source's tree, links resolved.
	path string
	file file
	// below is what is copied of a directory, parents first, siblings sorted.
	below       files
	archive     bool              // to be unpacked
	compression decompress.Format // of the archive
}

// file is one file of an item. There are many; the headers that trees give are larger.
type file struct {
	attr
	name string // in the source's tree
	item *item
	// implied directories are not selected themselves, but hold files that are.
	implied bool
	// digest is that of a regular file's contents; zero when it is not known yet.
	digest [sha256.Size]byte
}

// rel is the name of f, a file of it.below, relative to the item.
func (it *item) rel(f *file) string {
	if it.path == rootName {
		return f.name
	}
	return f.name[len(it.path)+1:]
}

// read opens the contents of a regular file.
func (f *file) read() (io.ReadCloser, error) {
	src := f.item.src
	if src.Inline != nil {
		return io.NopCloser(strings.NewReader(src.Inline.Data)), nil
	}
	opened, err := src.Tree.Open(f.name)
	if err != nil {
		return nil, err
	}
	w := &watched{File: opened, want: f}
	if err := w.check(); err != nil {
		_ = opened.Close()
		return nil, err
	}
	return w, nil
}

func (f *file) sum() *[sha256.Size]byte { return known(&f.digest) }

// notFound says that a source is not there, in BuildKit's words.
type notFound string

func (e notFound) Error() string { return fmt.Sprintf("%q: not found", string(e)) }
func (notFound) Unwrap() error   { return fs.ErrNotExist }

// Select finds the files that c copies and reports what is missing or malformed. A pattern that nothing
// matches is no error. Select reads no contents, but the beginning of regular files that may be unpacked.
//
// The caller closes the selection when the changes made from it have been read.
func (c Copy) Select(ctx context.Context) (*Selection, error) {
	s := &Selection{copy: c}
	var err error
	if s.chmod, err = parseChmod(c.Chmod); err != nil {
		return nil, err
	}
	if s.owner, err = parseOwner(c.Chown); err != nil {
		return nil, err
	}
	if c.Link && s.owner.named() {
		return nil, fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", c.Chown)
	}
	for i := range c.Sources {
		if err := s.source(ctx, &c.Sources[i]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// source adds the items of src.
func (s *Selection) source(ctx context.Context, src *Source) error {
	if src.Inline != nil {
		s.items = append(s.items, s.inline(src))
		return nil
	}
	f, err := newFilter(&s.copy, src.Path)
	if err != nil {
		return err
	}
	names := []string{f.path}
	if !src.Literal {
		if names, err = expand(ctx, src.Tree, f.path); err != nil {
			return err
		}
	}
	for _, name := range names {
		it, err := s.item(ctx, src, name, f)
		if err != nil {
			return err
		}
		s.items = append(s.items, it)
	}
	if f.required != "" && !f.matched {
		return notFound(f.required)
	}
	return nil
}

func (s *Selection) inline(src *Source) *item {
	in := src.Inline
	a := attr{typ: tar.TypeReg, size: int64(len(in.Data)), mode: uint16(in.Mode & modePerm)}
	a.setTime(in.Time)
	it := &item{src: src, name: in.Name, path: in.Name}
	it.file = file{attr: a, name: in.Name, item: it, digest: sha256.Sum256([]byte(in.Data))}
	return it
}

// item returns the item that name, absolute and without wildcards, stands for.
func (s *Selection) item(ctx context.Context, src *Source, name string, f *filter) (*item, error) {
	it := &item{src: src, name: path.Base(name)}
	var err error
	var fi fs.FileInfo
	if it.path, err = rootfs.Resolve(src.Tree, name); err == nil {
		fi, err = src.Tree.Lstat(it.path)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		if f.required != "" {
			name = f.required
		}
		return nil, notFound(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	if it.file, err = it.fileOf(fi); err != nil {
		return nil, err
	}
	if it.file.isDir() {
		w := walker{ctx: ctx, item: it, filter: f}
		return it, w.walk(it.path, matches{})
	}
	if it.src.Unpack && it.file.typ == tar.TypeReg {
		it.archive, it.compression, err = sniff(it.file.read)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
	}
	return it, nil
}

func (it *item) fileOf(fi fs.FileInfo) (file, error) {
	e := rootfs.EntryOf(fi)
	if e == nil {
		return file{}, fmt.Errorf("read %q: the tree gives no entry", fi.Name())
	}
	f := file{attr: attrOf(e.Header), name: e.Header.Name, item: it, digest: e.Digest}
	if e.Inode != 0 {
		s := f.rare()
		s.inode = e.Inode
		f.special = &s
	}
	return f, nil
}

// walker collects the files below an item.
type walker struct {
	ctx     context.Context //nolint:containedctx // it lives for one call
	item    *item
	filter  *filter
	pending []file // parents on the way down that are not selected
}

func (w *walker) walk(dir string, up matches) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	list, err := w.item.src.Tree.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read %q: %w", show(dir), err)
	}
	for _, d := range list {
		fi, err := d.Info()
		if err != nil {
			return fmt.Errorf("read %q: %w", show(join(dir, d.Name())), err)
		}
		f, err := w.item.fileOf(fi)
		if err != nil {
			return err
		}
		if err := w.file(f, up); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) file(f file, up matches) error {
	in, m, err := w.filter.match(w.item.rel(&f), up)
	if err != nil {
		return err
	}
	if in {
		w.filter.matched = true
		for _, up := range w.pending {
			w.item.below.add(up)
		}
		w.item.below.add(f)
		w.pending = w.pending[:0]
	}
	if !f.isDir() || !in && !w.filter.mayHold(w.item.rel(&f), m) {
		return nil
	}
	depth := len(w.pending)
	if !in {
		f.implied = true
		w.pending = append(w.pending, f)
	}
	err = w.walk(f.name, m)
	// What is still pending had nothing in it.
	w.pending = w.pending[:min(depth, len(w.pending))]
	return err
}
