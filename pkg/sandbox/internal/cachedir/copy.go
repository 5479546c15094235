package cachedir

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/extract"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
)

// copier copies a tree as if it were the layer of an image.
type copier struct {
	x *extract.Extractor
	// links are the first names of files that have several.
	links map[file]string
}

// file says which file a name means.
type file struct{ dev, ino uint64 }

// Copy copies source, a file or directory that does not change, to name in dir.
func Copy(source, dir, name string, oneOwner bool) error {
	x, err := extract.New(dir, extract.Options{Flat: true, Squash: oneOwner})
	if err != nil {
		return err
	}
	defer x.Close()
	c := &copier{x, make(map[file]string)}
	if err := c.copy(source, name); err != nil {
		return err
	}
	return x.Finish(nil)
}

func (c *copier) copy(source, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(source, &st); err != nil {
		return fmt.Errorf("copy %q: %w", source, err)
	}
	if _, ok := inode.Type(st.Mode); !ok {
		return nil // a socket, to which nobody listens any more
	}
	if strings.HasPrefix(path.Base(name), ".wh.") {
		return fmt.Errorf("copy %q: images cannot have files of that name", source)
	}
	h, err := inode.Header(source, name, &st)
	if err != nil {
		return err
	}
	if c.isLink(h, &st) {
		return c.x.Entry(h, nil)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return c.contents(source, h)
	case tar.TypeDir:
		return c.dir(source, h)
	}
	return c.x.Entry(h, nil)
}

// isLink makes the header of a file that was copied before, under another name, that of a link.
func (c *copier) isLink(h *tar.Header, st *unix.Stat_t) bool {
	if h.Typeflag == tar.TypeDir || st.Nlink < 2 {
		return false
	}
	id := file{uint64(st.Dev), st.Ino} //nolint:unconvert // its type depends on the platform
	first, ok := c.links[id]
	if !ok {
		c.links[id] = h.Name
		return false
	}
	h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
	return true
}

func (c *copier) contents(source string, h *tar.Header) error {
	f, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copy %q: %w", source, err)
	}
	defer f.Close()
	return c.x.Entry(h, io.LimitReader(f, h.Size))
}

func (c *copier) dir(source string, h *tar.Header) error {
	if err := c.x.Entry(h, nil); err != nil {
		return err
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		return fmt.Errorf("copy %q: %w", source, err)
	}
	for _, e := range entries {
		if err := c.copy(source+"/"+e.Name(), h.Name+"/"+e.Name()); err != nil {
			return err
		}
	}
	return nil
}
