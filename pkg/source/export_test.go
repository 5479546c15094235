package source

import (
	"io/fs"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// WrapForTest returns c's tree, calling read with each directory that is read from below.
func WrapForTest(c *Context, read func(name string)) rootfs.Tree {
	t := c.Tree.(*tree)
	return newTree(watched{t.all, read}, t.matcher)
}

type watched struct {
	rootfs.Tree
	read func(name string)
}

func (w watched) ReadDir(name string) ([]fs.DirEntry, error) {
	w.read(name)
	return w.Tree.ReadDir(name)
}

// ResolveSubmoduleForTest gives the URL of a submodule.
func ResolveSubmoduleForTest(parent, address string) (string, error) {
	return resolveSubmodule(parent, address)
}
