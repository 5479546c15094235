package rootfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/rootfs/rootfstest"
)

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
