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
	return fromTree(t, root, func(name string) string {
		switch {
		case name == root:
			return ""
		case root == ".":
			return name
		}
		return strings.TrimPrefix(name, root+"/")
	})
}

// FromTreeAs is like FromTree for any file root, which is not left out but called as, a clean name other than ".";
// names below it begin with it.
func FromTreeAs(t rootfs.Tree, root, as string) Changes {
	return fromTree(t, root, func(name string) string {
		switch {
		case name == root:
			return as
		case root == ".":
			return as + "/" + name
		}
		return as + strings.TrimPrefix(name, root)
	})
}

// fromTree gives the files below root, and root, the names that rename makes of theirs, and leaves out what gets none.
func fromTree(t rootfs.Tree, root string, rename func(string) string) Changes {
	return func(yield func(Change, error) bool) {
		first := make(map[uint64]string) // names by inode
		err := rootfs.Walk(t, root, func(name string, e *rootfs.Entry) error {
			as := rename(name)
			if as == "" {
				return nil
			}
			c := Change{Kind: Add, Header: e.Header}
			if as != name {
				h := *e.Header
				h.Name = as
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
