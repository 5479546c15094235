package fileop_test

import (
	"crypto/sha256"
	"io"
	"io/fs"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// hashed is a tree that knows the digests of its files, as those of layers do.
type hashed struct{ rootfs.Tree }

func (h hashed) Lstat(name string) (fs.FileInfo, error) {
	fi, err := h.Tree.Lstat(name)
	if err != nil {
		return nil, err
	}
	return h.info(fi)
}

func (h hashed) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := h.Tree.ReadDir(name)
	for i, d := range list {
		fi, err := d.Info()
		if err != nil {
			return nil, err
		}
		if list[i], err = h.info(fi); err != nil {
			return nil, err
		}
	}
	return list, err
}

func (h hashed) info(fi fs.FileInfo) (*rootfs.FileInfo, error) {
	e := *rootfs.EntryOf(fi)
	if fi.Mode().IsRegular() {
		f, err := h.Tree.Open(e.Header.Name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			return nil, err
		}
		e.Digest = sha256.Sum256(b)
	}
	return rootfs.NewFileInfo(&e), nil
}
