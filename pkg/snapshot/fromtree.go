package snapshot

import (
	"archive/tar"
	"errors"
	"io"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// FromTree returns what is below the directory root of t as additions, with names relative to
// root; root itself is left out. The second and further names of a hard-linked file become hard
// links to the first one below root. The tree must stay open while the changes are consumed.
func FromTree(t rootfs.Tree, root string) Changes {
	return func(yield func(Change, error) bool) {
		first := make(map[uint64]string) // names by inode
		err := rootfs.Walk(t, root, func(name string, e *rootfs.Entry) error {
			if name == root {
				return nil
			}
			c := Change{Kind: Add, Header: e.Header}
			if root != "." {
				h := *e.Header
				h.Name = strings.TrimPrefix(name, root+"/")
				c.Header = &h
			}
			switch target, linked := first[e.Inode]; {
			case linked:
				h := *c.Header
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, target, 0
				c.Header = &h
			case e.Inode != 0:
				first[e.Inode] = c.Header.Name
			}
			if c.Header.Typeflag == tar.TypeReg {
				c.Open = func() (io.ReadCloser, error) { return t.Open(name) }
			}
			if !yield(c, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Change{}, err)
		}
	}
}

// errStopped ends a walk whose consumer wants no more.
var errStopped = errors.New("stopped")
