package extract_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/extract"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// into extracts one layer.
func into(t *rapid.T, dir string, layer []byte, o extract.Options, lower *union.View) error {
	x, err := extract.New(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Layer(t.Context(), bytes.NewReader(layer)); err != nil {
		return err
	}
	return x.Finish(lower)
}

// TestFormsAgree holds that layers mean the same in the flat form, in overlayfs's, and to rootfs, which extracts
// nothing.

func TestFormsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tmp, err := os.MkdirTemp("", "forms-*")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(tmp)
		flat := tmp + "/flat"
		if err := os.Mkdir(flat, 0o755); err != nil {
			t.Fatal(err)
		}
		view := &union.View{}
		var layers []v1.Layer
		for i, es := range rapid.SliceOfN(rapid.SliceOfN(entries(), 1, 8), 1, 4).Draw(t, "layers") {
			data := archive(oneWay(flat, sensible(es)))
			dir := fmt.Sprintf("%s/%d", tmp, i)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			errFlat := into(t, flat, data, extract.Options{Flat: true}, nil)
			errOverlay := into(t, dir, data, extract.Options{}, view)
			if errFlat != nil || errOverlay != nil {
				// Files in the way of directories may be seen by the one form and not by the other.
				t.Logf("flat: %v, overlay: %v", errFlat, errOverlay)
				return
			}
			view = &union.View{Dirs: append([]string{dir}, view.Dirs...)}
			layers = append(layers, layerOf(t, data))
		}
		want := walkFlat(t, flat)
		roundTrip(t, tmp, view, layers, want)
		root, err := view.Root()
		if err != nil {
			t.Fatal(err)
		}
		if got := walkUnion(t, root, view); !slices.Equal(got, want) {
			t.Fatalf("overlay\n%s\nflat\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if got := walkTree(t, layers); !slices.Equal(got, want) {
			t.Fatalf("rootfs\n%s\nflat\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// roundTrip holds that the topmost directory, taken for what a step wrote, becomes changes that become a layer that
// means the same; and that the changes which are found by comparing records do, too.
func roundTrip(t *rapid.T, tmp string, view *union.View, layers []v1.Layer, want []string) {
	lower := &union.View{Dirs: view.Dirs[1:]}
	upper := rewrite(t, tmp, diff.Upper(t.Context(), view.Dirs[0], lower, diff.Options{}))
	dir := tmp + "/again"
	mkdir(t, dir)
	if err := into(t, dir, upper, extract.Options{}, lower); err != nil {
		t.Fatal(err)
	}
	again := &union.View{Dirs: append([]string{dir}, lower.Dirs...)}
	root, err := again.Root()
	if err != nil {
		t.Fatal(err)
	}
	if got := walkUnion(t, root, again); !slices.Equal(got, want) {
		t.Fatalf("after a round trip\n%s\nbefore\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	stepped, plain := tmp+"/stepped", tmp+"/plain"
	for _, name := range []string{stepped, plain} {
		mkdir(t, name)
		for _, l := range layers[:len(layers)-1] {
			apply(t, name, l)
		}
	}
	before := scan(t, stepped)
	if err := diff.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, stepped, layers[len(layers)-1])
	after := scan(t, stepped)
	data := rewrite(t, tmp, diff.Compare(t.Context(), stepped, before, after, nil, diff.Options{}))
	if err := into(t, plain, data, extract.Options{Flat: true}, nil); err != nil {
		t.Fatal(err)
	}
	if got := walkFlat(t, plain); !slices.Equal(got, want) {
		t.Fatalf("compared\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func mkdir(t *rapid.T, name string) {
	if err := os.Mkdir(name, 0o755); err != nil {
		t.Fatal(err)
	}
}

func scan(t *rapid.T, dir string) *diff.Record {
	r, err := diff.Scan(t.Context(), dir, diff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := r.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	if r, err = diff.ReadRecord(&buf); err != nil {
		t.Fatal(err)
	}
	return r
}

func apply(t *rapid.T, dir string, l v1.Layer) {
	if err := into(t, dir, read(t, l), extract.Options{Flat: true}, nil); err != nil {
		t.Fatal(err)
	}
}

func read(t *rapid.T, l v1.Layer) []byte {
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rewrite makes a layer of changes, which it sends the way that those of a child take.
func rewrite(t *rapid.T, tmp string, changes snapshot.Changes) []byte {
	var wire bytes.Buffer
	if err := diff.Encode(&wire, changes); err != nil {
		t.Fatal(err)
	}
	l, err := snapshot.Write(t.Context(), diff.Decode(&wire, func(err error) error { return err }), snapshot.Options{Dir: tmp, Compression: snapshot.Uncompressed})
	if err != nil {
		t.Fatal(err)
	}
	if l == nil {
		return nil
	}
	return read(t, l)
}

func layerOf(t *rapid.T, data []byte) v1.Layer {
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}, tarball.WithCompressionLevel(gzip.NoCompression))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func describe(t *rapid.T, h *tar.Header, read func() ([]byte, error)) string {
	s := fmt.Sprintf("%c %o %s %s", h.Typeflag, h.Mode, h.Name, h.Linkname)
	if h.Typeflag == tar.TypeSymlink {
		s = fmt.Sprintf("%c %s %s", h.Typeflag, h.Name, h.Linkname)
	}
	if h.Typeflag == tar.TypeReg {
		data, err := read()
		if err != nil {
			t.Fatal(err)
		}
		s += fmt.Sprintf(" %q", data)
	}
	return s
}

func onDisk(t *rapid.T, name, file string) (string, bool) {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		t.Fatal(err)
	}
	h, err := inode.Header(file, name, &st)
	if err != nil {
		t.Fatal(err)
	}
	return describe(t, h, func() ([]byte, error) { return os.ReadFile(file) }), h.Typeflag == tar.TypeDir
}

func walkFlat(t *rapid.T, root string) (out []string) {
	var walk func(string)
	walk = func(dir string) {
		entries, err := os.ReadDir(path.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			line, isDir := onDisk(t, name, root+"/"+name)
			out = append(out, line)
			if isDir {
				walk(name)
			}
		}
	}
	walk("")
	return out
}

func walkUnion(t *rapid.T, root *union.Node, view *union.View) (out []string) {
	all := make(map[string]bool)
	for _, dir := range view.Dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all[e.Name()] = true
		}
	}
	var walk func(n *union.Node, dir string)
	walk = func(n *union.Node, dir string) {
		for _, base := range []string{"a", "b", "c"} {
			child, err := n.Lookup(base)
			if err != nil {
				t.Fatal(err)
			}
			if child == nil {
				continue
			}
			name := path.Join(dir, base)
			line, isDir := onDisk(t, name, child.Path)
			out = append(out, line)
			if isDir {
				walk(child, name)
			}
		}
	}
	walk(root, "")
	for name := range all {
		if len(name) > 1 {
			t.Fatalf("%q should not be there", name)
		}
	}
	return out
}

func walkTree(t *rapid.T, layers []v1.Layer) (out []string) {
	tree, err := rootfs.Of(t.Context(), layers, rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	err = rootfs.Walk(tree, ".", func(name string, e *rootfs.Entry) error {
		if name == "." {
			return nil
		}
		h := *e.Header
		h.Name = name
		out = append(out, describe(t, &h, func() ([]byte, error) {
			f, err := tree.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return io.ReadAll(f)
		}))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
