package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
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
		switch {
		case e.Header.Typeflag == tar.TypeSymlink:
			s += " -> " + e.Header.Linkname
		case e.Header.Typeflag == tar.TypeReg:
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

func TestLayerTreeMerge(t *testing.T) {
	type layer = []rootfstest.File
	for name, c := range map[string]struct {
		layers []layer
		want   []string
	}{
		"directories merge": {
			[]layer{{dir("d", 0o755), reg("d/a", "1"), reg("d/b", "1")}, {dir("d", 0o1777), reg("d/b", "2")}},
			[]string{"d dtrwxrwxrwx", "d/a -rw-r--r-- 1", "d/b -rw-r--r-- 2"},
		},
		"file over directory": {
			[]layer{{dir("d", 0o755), reg("d/a", "1")}, {reg("d", "file")}},
			[]string{"d -rw-r--r-- file"},
		},
		"directory over file": {
			[]layer{{reg("d", "file")}, {dir("d", 0o755), reg("d/a", "1")}},
			[]string{"d drwxr-xr-x", "d/a -rw-r--r-- 1"},
		},
		"trap 19: deleted": {
			[]layer{{dir("d", 0o755), reg("d/a", "1"), reg("d/b", "1")}, {reg("d/.wh.a", "")}},
			[]string{"d drwxr-xr-x", "d/b -rw-r--r-- 1"},
		},
		"deleted directory": {
			[]layer{{dir("d", 0o755), reg("d/a", "1")}, {reg(".wh.d", "")}},
			nil,
		},
		"deleted and made again": {
			[]layer{{reg("a", "1")}, {reg(".wh.a", "")}, {reg("a", "3")}},
			[]string{"a -rw-r--r-- 3"},
		},
		"whiteout in the layer of the file": {
			[]layer{{dir("d", 0o755), reg("d/a", "1")}, {dir("d", 0o755), reg("d/b", "2"), reg(".wh.d", "")}},
			[]string{"d drwxr-xr-x", "d/b -rw-r--r-- 2"},
		},
		"trap 20: opaque": {
			[]layer{{dir("d", 0o755), dir("d/e", 0o755), reg("d/e/a", "1"), reg("d/b", "1")}, {dir("d", 0o700), reg("d/.wh..wh..opq", ""), reg("d/c", "2")}},
			[]string{"d drwx------", "d/c -rw-r--r-- 2"},
		},
		"opaque after the files": {
			[]layer{{dir("d", 0o755), dir("d/e", 0o755), reg("d/e/a", "1"), reg("d/b", "1")}, {reg("d/e/new", "2"), reg("d/c", "2"), reg("d/.wh..wh..opq", "")}},
			[]string{"d drwxr-xr-x", "d/c -rw-r--r-- 2", "d/e drwxr-xr-x", "d/e/new -rw-r--r-- 2"},
		},
		"opaque root": {
			[]layer{{reg("a", "1")}, {reg(".wh..wh..opq", ""), reg("b", "2")}},
			[]string{"b -rw-r--r-- 2"},
		},
		"implicit parents": {
			[]layer{{dir("d", 0o1777)}, {reg("d/a", "2"), reg("e/f/a", "2")}},
			[]string{"d dtrwxrwxrwx", "d/a -rw-r--r-- 2", "e drwxr-xr-x", "e/f drwxr-xr-x", "e/f/a -rw-r--r-- 2"},
		},
		"implicit parent is a link": {
			[]layer{{dir("usr", 0o755), dir("usr/bin", 0o755), symlink("bin", "usr/bin"), symlink("abs", "/../usr/./bin")}, {reg("bin/a", "2"), reg("abs/b", "2")}},
			[]string{"abs Lrwxrwxrwx -> /../usr/./bin", "bin Lrwxrwxrwx -> usr/bin", "usr drwxr-xr-x", "usr/bin drwxr-xr-x", "usr/bin/a -rw-r--r-- 2", "usr/bin/b -rw-r--r-- 2"},
		},
		"implicit parent is a dangling link": {
			[]layer{{symlink("l", "x/y")}, {reg("l/a", "2")}},
			[]string{"l Lrwxrwxrwx -> x/y", "x drwxr-xr-x", "x/y drwxr-xr-x", "x/y/a -rw-r--r-- 2"},
		},
		"whiteout through a link": {
			[]layer{{dir("usr", 0o755), reg("usr/a", "1"), symlink("l", "usr")}, {reg("l/.wh.a", "")}},
			[]string{"l Lrwxrwxrwx -> usr", "usr drwxr-xr-x"},
		},
		"trap 23: directory over a link": {
			[]layer{{dir("usr", 0o755), reg("usr/a", "1"), symlink("l", "usr")}, {dir("l", 0o700), reg("l/b", "2")}},
			[]string{"l drwx------", "l/b -rw-r--r-- 2", "usr drwxr-xr-x", "usr/a -rw-r--r-- 1"},
		},
		"link over a directory": {
			[]layer{{dir("d", 0o755), reg("d/a", "1"), dir("e", 0o755)}, {symlink("d", "e"), reg("d/b", "2")}},
			[]string{"d Lrwxrwxrwx -> e", "e drwxr-xr-x", "e/b -rw-r--r-- 2"},
		},
		"directory over a file, implied": {
			[]layer{{reg("d", "file")}, {reg("d/a", "2")}},
			[]string{"d drwxr-xr-x", "d/a -rw-r--r-- 2"},
		},
		"twice in one layer": {
			[]layer{{reg("a", "1"), reg("a", "2"), dir("d", 0o755), reg("d/x", ""), dir("d", 0o700)}},
			[]string{"a -rw-r--r-- 2", "d drwx------", "d/x -rw-r--r-- "},
		},
		"trap 80: names stay inside": {
			[]layer{{symlink("up", "../../.."), reg("up/../../a", "1"), reg("../b", "1"), reg("/c", "1"), reg("up/d", "1")}},
			[]string{"a -rw-r--r-- 1", "b -rw-r--r-- 1", "c -rw-r--r-- 1", "d -rw-r--r-- 1", "up Lrwxrwxrwx -> ../../.."},
		},
		"directory becomes a link between its files": {
			[]layer{{dir("d", 0o755), reg("d/a", "1"), dir("e", 0o755)}, {reg("d/b", "2"), symlink("d", "e"), reg("d/c", "2")}},
			[]string{"d Lrwxrwxrwx -> e", "e drwxr-xr-x", "e/c -rw-r--r-- 2"},
		},
		"directory goes between its files": {
			[]layer{{dir("d", 0o700), dir("d/e", 0o700), reg("d/e/a", "1")}, {reg("d/e/.wh.a", ""), reg(".wh.d", ""), reg("d/e/b", "2")}},
			[]string{"d drwxr-xr-x", "d/e drwxr-xr-x", "d/e/b -rw-r--r-- 2"},
		},
		"aufs": {
			[]layer{{dir(".wh..wh.plnk", 0o700), reg(".wh..wh.plnk/1.2", "x"), reg(".wh..wh.aufs", ""), reg("a", "1")}},
			[]string{"a -rw-r--r-- 1"},
		},
		"hard link to a lower layer": {
			[]layer{{reg("a", "1")}, {link("b", "a"), link("c", "b")}},
			[]string{"a -rw-r--r-- 1", "b -rw-r--r-- 1", "c -rw-r--r-- 1"},
		},
		"hard link outlives its target": {
			[]layer{{reg("a", "1"), link("b", "a")}, {reg(".wh.a", "")}},
			[]string{"b -rw-r--r-- 1"},
		},
		"hard link to a link": {
			[]layer{{symlink("s", "x"), link("h", "s"), symlink("d", "/"), link("i", "d/s")}},
			[]string{"d Lrwxrwxrwx -> /", "h Lrwxrwxrwx -> x", "i Lrwxrwxrwx -> x", "s Lrwxrwxrwx -> x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []v1.Layer
			for _, l := range c.layers {
				layers = append(layers, layerOf(t, l...))
			}
			if got := list(t, treeOf(t, layers...)); !slices.Equal(got, c.want) {
				t.Errorf("tree is\n%q, want\n%q", got, c.want)
			}
			// One at a time comes to the same, and leaves what is below alone.
			var tree *rootfs.LayerTree
			var below [][]string
			trees := []*rootfs.LayerTree{treeOf(t)}
			for _, l := range layers {
				tree = trees[len(trees)-1]
				below = append(below, list(t, tree))
				next, err := tree.With(t.Context(), l)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { next.Close() })
				trees = append(trees, next)
			}
			if got := list(t, trees[len(trees)-1]); !slices.Equal(got, c.want) {
				t.Errorf("one at a time the tree is\n%q, want\n%q", got, c.want)
			}
			for i, want := range below {
				if got := list(t, trees[i]); !slices.Equal(got, want) {
					t.Errorf("the tree of %d layers changed to\n%q from\n%q", i, got, want)
				}
			}
		})
	}
}

func TestLayerTreeRefuses(t *testing.T) {
	for name, files := range map[string][]rootfstest.File{
		"link to nothing":     {link("a", "b")},
		"link to a directory": {dir("d", 0o755), link("a", "d")},
		"link to itself":      {reg("a", ""), link("a", "a")},
		"file as parent":      {reg("a", ""), reg("a/b", "")},
		"loop as parent":      {symlink("l", "l"), reg("l/a", "")},
		"empty whiteout":      {reg("d/.wh.", "")},
		"whiteout of dot":     {reg("d/.wh..", "")},
		"whiteout of dot dot": {reg("d/.wh...", "")},
		"long name":           {reg(strings.Repeat("a/", 3000)+"b", "")},
	} {
		if _, err := rootfs.Of(t.Context(), []v1.Layer{layerOf(t, files...)}, rootfs.Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Short names may not lead to unlimited depth.
func TestLayerTreeDepth(t *testing.T) {
	deep := strings.Repeat("d/", 1900)
	name := "l"
	var files []rootfstest.File
	for range 4 {
		files = append(files, symlink(name, deep))
		name += "/l"
	}
	tooMany := make([]rootfstest.File, 0, 150)
	for i := range cap(tooMany) {
		tooMany = append(tooMany, reg(fmt.Sprint(i, "/", deep, "f"), ""))
	}
	for _, files := range [][]rootfstest.File{files, tooMany} {
		if _, err := rootfs.Of(t.Context(), []v1.Layer{layerOf(t, files...)}, rootfs.Options{}); err == nil {
			t.Error("no error for directories without end")
		}
	}
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

// memIndexes is an Indexes in memory.
type memIndexes struct {
	m    map[v1.Hash]*rootfs.Index
	puts int
}

func (m *memIndexes) Index(_ context.Context, id v1.Hash) (*rootfs.Index, error) {
	if x := m.m[id]; x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("index: %w", fs.ErrNotExist)
}

func (m *memIndexes) PutIndex(_ context.Context, id v1.Hash, x *rootfs.Index) error {
	m.m[id] = x
	m.puts++
	return nil
}

// A known index spares the layer.
func TestLayerTreeLazy(t *testing.T) {
	layer := layerOf(t, reg("a", "1"), reg("b", "2"), reg("empty", ""))
	idx := &memIndexes{m: map[v1.Hash]*rootfs.Index{}}
	o := rootfs.Options{Indexes: idx, TempDir: t.TempDir()}
	for range 3 {
		tree, err := rootfs.Of(t.Context(), []v1.Layer{layer, layer}, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tree.Lstat("a"); err != nil {
			t.Error(err)
		}
		if f, err := tree.Open("empty"); err != nil {
			t.Error(err)
		} else {
			f.Close()
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := layer.opened.Load(); n != 1 || idx.puts != 1 {
		t.Errorf("layer was opened %d times and its index put %d times", n, idx.puts)
	}
}

// Files read in order need one stream, a few steps back a few, and many a temporary file.
func TestLayerTreeStreams(t *testing.T) {
	var files []rootfstest.File
	for i := range 100 {
		files = append(files, reg(fmt.Sprintf("f%02d", i), strings.Repeat("x", 1000+i)))
	}
	layer := layerOf(t, files...)
	idx := &memIndexes{m: map[v1.Hash]*rootfs.Index{}}
	temp := t.TempDir()
	tree, err := rootfs.Of(t.Context(), []v1.Layer{layer}, rootfs.Options{Indexes: idx, TempDir: temp})
	if err != nil {
		t.Fatal(err)
	}
	var before int64
	opened := func() int64 { // since the last call
		n := layer.opened.Load() - before
		before += n
		return n
	}
	opened()
	for _, f := range files {
		if got := readFile(t, tree, f.Header.Name); got != f.Body {
			t.Fatalf("%q: wrong contents", f.Header.Name)
		}
	}
	if n := opened(); n != 1 {
		t.Errorf("in order: layer opened %d times", n)
	}
	readFile(t, tree, "f10")
	readFile(t, tree, "f05")
	if n := opened(); n != 2 {
		t.Errorf("two steps back: layer opened %d times", n)
	}
	slices.Reverse(files)
	for _, f := range files {
		if got := readFile(t, tree, f.Header.Name); got != f.Body {
			t.Fatalf("%q: wrong contents", f.Header.Name)
		}
	}
	if n := opened(); n > 3 {
		t.Errorf("backwards: layer opened %d times", n)
	}
	if list, err := os.ReadDir(temp); err != nil || len(list) != 0 {
		t.Errorf("temporary files have names: %v, %v", list, err)
	}
	// A tree that goes on has the streams too.
	next, err := tree.With(t.Context(), layerOf(t, reg("new", "new")))
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
	if got := readFile(t, next, "f00"); len(got) != 1000 {
		t.Errorf("after Close of the tree below: %d bytes", len(got))
	}
	if n := opened(); n != 0 {
		t.Errorf("after Close of the tree below: layer opened %d times", n)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	if o, c := layer.opened.Load(), layer.closed.Load(); c != o {
		t.Errorf("%d streams opened, %d closed", o, c)
	}
}

func readFile(t *testing.T, tree rootfs.Tree, name string) string {
	t.Helper()
	f, err := tree.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLayerTreeSparse(t *testing.T) {
	for _, format := range []string{"gnu", "posix"} {
		tree := treeOf(t, rawLayer(gnuSparse(t, format, 5<<20)))
		want := make([]byte, 5<<20)
		copy(want[1<<20:], "data")
		if got := readFile(t, tree, "sparse"); got != string(want) {
			t.Errorf("%s: wrong contents", format)
		}
	}
}

func TestLayerTreeContents(t *testing.T) {
	layer := layerOf(t, reg("here", "12345"), reg("there", "12345"), reg("short", "12345"), reg("broken", "12345"))
	boom := errors.New("boom")
	id, _ := layer.DiffID()
	tree, err := rootfs.Of(t.Context(), []v1.Layer{layer}, rootfs.Options{Contents: func(diffID v1.Hash, rec *rootfs.Record) (io.ReadCloser, error) {
		if diffID != id {
			t.Errorf("asked for layer %v", diffID)
		}
		switch rec.Header.Name {
		case "there":
			return nil, fmt.Errorf("not there: %w", fs.ErrNotExist)
		case "broken":
			return nil, boom
		case "short":
			return io.NopCloser(strings.NewReader("abc")), nil
		}
		return io.NopCloser(strings.NewReader("abcdefgh")), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	layer.opened.Store(0)
	if got := readFile(t, tree, "here"); got != "abcde" || layer.opened.Load() != 0 {
		t.Errorf("read %q; layer opened %d times", got, layer.opened.Load())
	}
	if got := readFile(t, tree, "there"); got != "12345" {
		t.Errorf("read %q", got)
	}
	if _, err := tree.Open("broken"); !errors.Is(err, boom) {
		t.Errorf("Open: %v", err)
	}
	f, err := tree.Open("short")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadAll(f); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short contents: %v", err)
	}
}

// lyingLayer has other bytes than its diff ID says.
type lyingLayer struct {
	v1.Layer
	other v1.Layer
}

func (l lyingLayer) Uncompressed() (io.ReadCloser, error) { return l.other.Uncompressed() }

func TestLayerTreeDiffID(t *testing.T) {
	idx := &memIndexes{m: map[v1.Hash]*rootfs.Index{}}
	layer := lyingLayer{layerOf(t, reg("a", "1")), layerOf(t, reg("a", "evil"))}
	if _, err := rootfs.Of(t.Context(), []v1.Layer{layer}, rootfs.Options{Indexes: idx}); err == nil || idx.puts != 0 {
		t.Errorf("Of: %v; index put %d times", err, idx.puts)
	}
}

func TestLayerTreeCanceled(t *testing.T) {
	why := errors.New("stage b failed")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := rootfs.Of(ctx, []v1.Layer{layerOf(t, reg("a", "1"))}, rootfs.Options{}); !errors.Is(err, why) {
		t.Errorf("Of: %v", err)
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
			x.Records = append(x.Records, rootfs.Record{Header: dir(fmt.Sprintf("usr/share/doc/package-%d", i/10), 0o755).Header})
		}
		x.Records = append(x.Records, rootfs.Record{Header: reg(fmt.Sprintf("usr/share/doc/package-%d/file-%d", i/10, i), "").Header})
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
