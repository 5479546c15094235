package rootfs_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/rootfs/rootfstest"
)

// countingLayer counts how often its bytes are asked for.
type countingLayer struct {
	v1.Layer
	opened atomic.Int64
	closed atomic.Int64
}

func (l *countingLayer) Uncompressed() (io.ReadCloser, error) {
	l.opened.Add(1)
	rc, err := l.Layer.Uncompressed()
	return &countingCloser{rc, &l.closed}, err
}

type countingCloser struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countingCloser) Close() error {
	c.n.Add(1)
	return c.ReadCloser.Close()
}

func layerOf(t testing.TB, files ...rootfstest.File) *countingLayer {
	t.Helper()
	return rawLayer(tarOf(t, files...))
}

func rawLayer(data []byte) *countingLayer {
	return &countingLayer{Layer: static.NewLayer(data, types.OCIUncompressedLayer)}
}

func treeOf(t testing.TB, layers ...v1.Layer) *rootfs.LayerTree {
	t.Helper()
	tree, err := rootfs.Of(t.Context(), layers, rootfs.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// list returns what is in tree, one file a string, for comparison.
func list(t testing.TB, tree rootfs.Tree) []string {
	t.Helper()
	var out []string
	err := rootfs.Walk(tree, ".", func(name string, e *rootfs.Entry) error {
		if name == "." {
			return nil
		}
		s := fmt.Sprintf("%s %v", name, rootfs.FileMode(e.Header))
		switch e.Header.Typeflag {
		case tar.TypeSymlink:
			s += " -> " + e.Header.Linkname
		case tar.TypeReg:
			f, err := tree.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			data, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			s += " " + string(data)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return out
}

func TestLayerTree(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		rootfstest.Run(t, func(t *testing.T, files []rootfstest.File) rootfs.Tree {
			return treeOf(t, layerOf(t, files...))
		})
	})
	t.Run("stacked", func(t *testing.T) {
		rootfstest.Run(t, func(t *testing.T, files []rootfstest.File) rootfs.Tree {
			return treeOf(t, layerOf(t, dir("dir", 0o700), reg("old", ""), reg("big", "small")), layerOf(t, files...), layerOf(t, reg(".wh.old", "")))
		})
	})
	t.Run("split", func(t *testing.T) {
		rootfstest.Run(t, func(t *testing.T, files []rootfstest.File) rootfs.Tree {
			return treeOf(t, layerOf(t, files[:8]...), layerOf(t, files[8:]...))
		})
	})
}

// Some writers put the type into the mode, and the size of its target into a link.
func TestLayerTreeOddHeaders(t *testing.T) {
	file := reg("a", "x")
	file.Header.Mode |= 0o100000
	data := tarOf(t, file, link("b", "a"), symlink("c", "a"))
	for at := 0; at+512 <= len(data); at += 512 {
		if h := data[at : at+512]; h[156] == tar.TypeLink || h[156] == tar.TypeSymlink {
			copy(h[124:], "00000000123")
			copy(h[148:], "        ")
			sum := 0
			for _, b := range h {
				sum += int(b)
			}
			copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		}
	}
	tree := treeOf(t, rawLayer(data))
	for name, size := range map[string]int64{"a": 1, "b": 1, "c": 0} {
		fi, err := tree.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if h := rootfs.EntryOf(fi).Header; h.Size != size || h.Mode&^0o777 != 0 {
			t.Errorf("%q has size %d and mode %o", name, h.Size, h.Mode)
		}
	}
}

func TestLayerTreeInodes(t *testing.T) {
	tree := treeOf(t,
		layerOf(t, reg("a", "1"), link("b", "a"), reg("c", "1")),
		layerOf(t, link("d", "c"), link("e", "c"), reg("f", "2"), link("g", "f")))
	inode := func(name string) uint64 {
		fi, err := tree.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		return rootfs.EntryOf(fi).Inode
	}
	if inode("a") == 0 || inode("a") != inode("b") {
		t.Error("a and b are not linked")
	}
	if inode("c") != 0 {
		t.Error("c, of a lower layer, is linked to what is above")
	}
	if inode("d") == 0 || inode("d") != inode("e") {
		t.Error("d and e are not linked")
	}
	if inode("f") == 0 || inode("f") != inode("g") || inode("f") == inode("d") || inode("f") == inode("a") {
		t.Error("f and g are not linked, or to others")
	}
}

func TestLayerTreeOrigin(t *testing.T) {
	a, b := layerOf(t, dir("d", 0o755), reg("d/a", "1")), layerOf(t, reg("d/b", "2"), reg("e/c", ""))
	tree := treeOf(t, a, b)
	for name, want := range map[string]int{"d": 0, "d/a": 0, "d/b": 1, "e": 1, "e/c": 1} {
		layer, rec, err := tree.Origin(name)
		if err != nil || layer != want || (rec == nil) != (name == "e") || (rec != nil && rec.Header.Name != name) {
			t.Errorf("Origin(%q) = %d, %v, %v", name, layer, rec, err)
		}
	}
	if _, _, err := tree.Origin("no"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Origin(no): %v", err)
	}
	if got := tree.Layers(); len(got) != 2 || got[0] != v1.Layer(a) || got[1] != v1.Layer(b) {
		t.Errorf("Layers() = %v", got)
	}
}

func FuzzLayerTree(f *testing.F) {
	f.Add(tarOf(f, rootfstest.Files()[:16]...), tarOf(f, reg("dir/.wh..wh..opq", ""), symlink("dir/x", "../.."), reg("dir/x/y", "z")))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		tree, err := rootfs.Of(t.Context(), []v1.Layer{rawLayer(a), rawLayer(b)}, rootfs.Options{TempDir: t.TempDir()})
		if err != nil {
			return
		}
		defer tree.Close()
		err = rootfs.Walk(tree, ".", func(name string, e *rootfs.Entry) error {
			if name != rootfs.Clean(name) || e.Header.Name != name {
				t.Errorf("name %q, entry %q", name, e.Header.Name)
			}
			if strings.HasPrefix(e.Header.Name, ".wh.") {
				t.Errorf("a whiteout in the tree: %q", name)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkLayerTree(b *testing.B) {
	x := &rootfs.Index{}
	for i := range 50000 {
		if i%10 == 0 {
			x.Append(&rootfs.Record{Header: dir(fmt.Sprintf("usr/share/doc/package-%d", i/10), 0o755).Header})
		}
		x.Append(&rootfs.Record{Header: reg(fmt.Sprintf("usr/share/doc/package-%d/file-%d", i/10, i), "").Header})
	}
	layer := rawLayer(bytes.Repeat([]byte{0}, 1024))
	id, _ := layer.DiffID()
	idx := &memIndexes{m: map[v1.Hash]*rootfs.Index{id: x}}
	b.ReportAllocs()
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.ReadMemStats(&before)
		tree, err := rootfs.Of(b.Context(), []v1.Layer{layer}, rootfs.Options{Indexes: idx})
		if err != nil {
			b.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(tree)
	}
	b.ReportMetric(float64(after.HeapAlloc)-float64(before.HeapAlloc), "heapB")
}
