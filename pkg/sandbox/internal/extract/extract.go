// Package extract writes the entries of image layers to disk, either in the form in which
// overlayfs takes a layer or flat, on top of what lower layers have left in the same directory.
//
// A layer cannot reach out of its directory: links are resolved, one component at a time, as if the
// directory were the root of the filesystem.
package extract

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	metaPrefix     = ".wh..wh."
)

// Options say in which form a layer is written.
type Options struct {
	// Flat applies whiteouts to what is in the directory. Otherwise they become those of overlayfs.
	Flat bool
	// UserXattr marks opaque directories by user attributes, which need no privileges.
	UserXattr bool
	// Squash leaves all files to the one owner that there is.
	Squash bool
}

// Extractor writes one layer to a directory, which nothing else may change meanwhile. It is not safe for
// concurrent use.
type Extractor struct {
	o    Options
	tree tree
	buf  []byte
	// dirTimes are set when nothing more is going to be made in the directories.
	dirTimes map[string]dirTime
	// implicit directories were made because something is in them; the layers below know more about them.
	implicit map[string]bool
	// replaced are directories that are not those of the layers below, as a whiteout stands beside them.
	replaced map[string]bool
	// links are hard links to files that this layer does not have, by their names.
	links []link
	// made holds the paths that this layer made, in the flat form, where a whiteout has to tell them from others.
	made map[string]bool
}

type link struct {
	name, target string
	header       *tar.Header
}

// New returns an Extractor for dir, which exists.
func New(dir string, o Options) (*Extractor, error) {
	fd, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", dir, err)
	}
	x := &Extractor{
		o: o, buf: make([]byte, 256<<10),
		dirTimes: make(map[string]dirTime), implicit: make(map[string]bool), replaced: make(map[string]bool),
	}
	x.tree = tree{root: fd, make: x.makeImplicit, cache: make(map[string]place)}
	if o.Flat {
		x.made = make(map[string]bool)
	}
	return x, nil
}

// Close gives up what the Extractor holds; it removes nothing.
func (x *Extractor) Close() { x.tree.close() }

// Layer writes all entries of an uncompressed layer.
func (x *Extractor) Layer(ctx context.Context, layer io.Reader) error {
	return Entries(layer, func(h *tar.Header, body io.Reader) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return x.Entry(h, body)
	})
}

// Entries calls entry for each entry of an uncompressed layer, up to the end of the archive.
func Entries(layer io.Reader, entry func(h *tar.Header, body io.Reader) error) error {
	tr := tar.NewReader(layer)
	for {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return fmt.Errorf("read layer: %w", err)
		}
		if err := entry(h, tr); err != nil {
			return err
		}
	}
}

// Entry writes one entry. A later entry of the same path replaces an earlier one. The root itself keeps
// the attributes it has, as in container engines.
func (x *Extractor) Entry(h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := clean(h.Name)
	if name == "." {
		return nil
	}
	if err := x.entry(name, h, body); err != nil {
		return fmt.Errorf("extract %q: %w", name, err)
	}
	return nil
}

func (x *Extractor) entry(name string, h *tar.Header, body io.Reader) error {
	dir, base := path.Split(name)
	parent, err := x.tree.dir(clean(dir))
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return x.whiteout(parent, base)
	}
	return x.file(parent, base, h, body)
}

// whiteout removes, or has overlayfs hide, what lower layers have. It never hides what the
// same layer has, wherever in the layer that stands.
func (x *Extractor) whiteout(in place, marker string) error {
	if marker == opaqueMarker {
		return x.opaque(in)
	}
	if strings.HasPrefix(marker, metaPrefix) {
		return nil // bookkeeping of aufs
	}
	base := strings.TrimPrefix(marker, whiteoutPrefix)
	if base == "" || base == "." || base == ".." {
		return fmt.Errorf("invalid whiteout %q", marker)
	}
	var st unix.Stat_t
	err := unix.Fstatat(in.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	exists := err == nil
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	switch {
	case x.o.Flat && exists && !x.made[in.join(base)]:
		return x.remove(in, base, st.Mode)
	case exists && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		dir, err := x.tree.dir(in.join(base))
		if err != nil {
			return err
		}
		x.replaced[dir.path] = true
		return x.opaque(dir)
	case exists || x.o.Flat:
		return nil
	}
	return unix.Mknodat(in.fd, base, unix.S_IFCHR, 0)
}

// opaque hides all that lower layers have in a directory.
func (x *Extractor) opaque(dir place) error {
	if !x.o.Flat {
		return unix.Lsetxattr(procPath(dir.fd, "."), union.OpaqueXattr(x.o.UserXattr), []byte{'y'}, 0)
	}
	names, err := list(dir.fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := x.removeOld(dir.path, name); err != nil {
			return err
		}
	}
	return nil
}

// removeOld removes a file, or what is in a directory, unless this layer has made it.
func (x *Extractor) removeOld(dir, name string) error {
	in, err := x.tree.dir(dir)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(in.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if !x.made[in.join(name)] {
		return x.remove(in, name, st.Mode)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	below, err := x.tree.dir(in.join(name))
	if err != nil {
		return err
	}
	return x.opaque(below)
}

// remove removes the file of that mode, or a directory with what is in it. The place it was in has
// to be asked for again afterwards.
func (x *Extractor) remove(in place, base string, mode uint32) error {
	removed := in.join(base)
	delete(x.made, removed)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		x.tree.forget()
		forgetBelow(x.made, removed)
		forgetBelow(x.implicit, removed)
		forgetBelow(x.replaced, removed)
		forgetBelow(x.dirTimes, removed)
	case unix.S_IFLNK:
		x.tree.forget()
	default:
		return unix.Unlinkat(in.fd, base, 0)
	}
	parent, err := x.tree.dir(in.path)
	if err != nil {
		return err
	}
	return removeAll(parent.fd, base)
}

func forgetBelow[V any](m map[string]V, dir string) {
	for name := range m {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			delete(m, name)
		}
	}
}

// makeImplicit makes a directory that no entry has named so far.
func (x *Extractor) makeImplicit(in place, base string, hidden bool) error {
	if err := unix.Mkdirat(in.fd, base, 0o755); err != nil {
		return err
	}
	// Neither the umask nor a default ACL has a say.
	if err := unix.Fchmodat(in.fd, base, 0o755, 0); err != nil {
		return err
	}
	name := in.join(base)
	x.implicit[name] = true
	x.dirTimes[name] = dirTime{}
	x.mark(name)
	if hidden {
		x.replaced[name] = true
		return unix.Lsetxattr(procPath(in.fd, base), union.OpaqueXattr(x.o.UserXattr), []byte{'y'}, 0)
	}
	return nil
}

// mark notes that this layer has made a file, and so the directories that it is in.
func (x *Extractor) mark(name string) {
	for ; x.made != nil && name != "." && !x.made[name]; name = path.Dir(name) {
		x.made[name] = true
	}
}

// clean returns name relative to the root and without "..", or "." for the root.
func clean(name string) string {
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return "."
	}
	return name
}
