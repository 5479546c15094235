package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

var errNoHeader = errors.New("change without a header")

// checker holds a stream of changes against the rules of [Changes], so that no container
// engine refuses the layer.
type checker struct {
	// files holds hashes of the paths that a hard link may name: there can be hundreds of thousands of paths, and two of
	// them have one hash as good as never.
	files map[uint64]struct{}
	seed  maphash.Seed
	last  string // the last path, or empty
	leaf  string // the last path below which there can be nothing
}

func newChecker() checker { return checker{files: make(map[uint64]struct{}), seed: maphash.MakeSeed()} }

// check is called before c is written.
func (k *checker) check(c Change) error {
	h := c.Header
	if h.Name == "" || h.Name != rootfs.Clean(h.Name) {
		return errors.New("path is not clean and relative")
	}
	if k.last != "" {
		switch order := rootfs.ComparePaths(k.last, h.Name); {
		case order == 0:
			return errors.New("path comes twice")
		case order > 0:
			return fmt.Errorf("path comes after %q", k.last)
		}
	}
	if k.leaf != "" && isBelow(h.Name, k.leaf) {
		return fmt.Errorf("%q is no directory", k.leaf)
	}
	if strings.HasPrefix(h.Name, whiteoutPrefix) || strings.Contains(h.Name, "/"+whiteoutPrefix) {
		return fmt.Errorf("a layer cannot hold a name that begins with %q: it would delete a file", whiteoutPrefix)
	}
	switch c.Kind {
	case Add:
		return k.checkAdd(c)
	case Opaque:
		if h.Typeflag != tar.TypeDir {
			return errors.New("only a directory can be opaque")
		}
	case Delete:
		if h.Name == "." {
			return errors.New("the root cannot be deleted")
		}
	default:
		return fmt.Errorf("unknown kind of change %d", c.Kind)
	}
	return nil
}

func (k *checker) checkAdd(c Change) error {
	h := c.Header
	if h.Name == "." && h.Typeflag != tar.TypeDir {
		return errors.New("the root is a directory")
	}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return errors.New("symbolic link without a target")
		}
	case tar.TypeLink:
		if !k.isFile(h.Linkname) {
			return fmt.Errorf("hard link to %q, which did not come before as a file", h.Linkname)
		}
	case tar.TypeReg:
		if h.Size < 0 || (h.Size > 0 && c.Open == nil) {
			return fmt.Errorf("no contents for %d bytes", h.Size)
		}
	default:
		return fmt.Errorf("a layer cannot hold a file of type %q", h.Typeflag)
	}
	return nil
}

// isFile reports whether name came before and is no directory.
func (k *checker) isFile(name string) bool {
	_, found := k.files[maphash.String(k.seed, name)]
	return found
}

// added is called after c was written.
func (k *checker) added(c Change) {
	k.last = c.Header.Name
	if c.Kind == Opaque || (c.Kind == Add && c.Header.Typeflag == tar.TypeDir) {
		return
	}
	k.leaf = c.Header.Name
	if c.Kind == Add {
		k.files[maphash.String(k.seed, k.leaf)] = struct{}{}
	}
}

// isBelow reports whether name lies in the directory dir, however deep.
func isBelow(name, dir string) bool {
	if dir == "." {
		return name != "."
	}
	return len(name) > len(dir) && name[len(dir)] == '/' && strings.HasPrefix(name, dir)
}
