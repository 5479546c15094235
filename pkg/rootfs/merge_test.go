package rootfs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/rootfs/rootfstest"
)

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
