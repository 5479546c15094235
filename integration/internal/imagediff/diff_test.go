package imagediff

import (
	"archive/tar"
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func old() time.Time { return time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC) }

func reg(name, data string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data)), ModTime: old(),
		PAXRecords: map[string]string{"test.data": data}}
}

func dir(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: old()}
}

func hard(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, ModTime: old()}
}

// layer makes a layer of headers; the data of a regular file stands in a record of reg.
func layer(t *testing.T, headers ...tar.Header) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		data := h.PAXRecords["test.data"]
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func imageOf(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func compare(t *testing.T, want, got v1.Image) []string {
	t.Helper()
	diffs, err := new(Comparer).Compare(want, got, Options{Since: old().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return diffs
}

// TestCompareSeesEveryAlteration alters one thing at a time and expects to read of that, and of that alone.
func TestCompareSeesEveryAlteration(t *testing.T) {
	base := func() []tar.Header {
		return []tar.Header{dir("d/"), reg("d/f", "data"), hard("d/g", "d/f"), reg("x", "1")}
	}
	for _, test := range []struct {
		name  string
		alter func(h []tar.Header) []tar.Header
		want  []string
	}{
		{"nothing", func(h []tar.Header) []tar.Header { return h }, nil},
		{"mode", func(h []tar.Header) []tar.Header { h[3].Mode = 0o4644; return h }, []string{"/x: mode: want 0644, got 4644"}},
		{"owner", func(h []tar.Header) []tar.Header { h[0].Gid = 7; return h }, []string{"/d: owner: want 0:0, got 0:7"}},
		{"content", func(h []tar.Header) []tar.Header { h[3] = reg("x", "2"); return h }, []string{"/x: content: want 6b86b273ff34, got d4735e3a265e"}},
		{"size", func(h []tar.Header) []tar.Header { h[3] = reg("x", "12"); return h }, []string{"/x: size: want 1, got 2"}},
		{"time", func(h []tar.Header) []tar.Header { h[3].ModTime = old().Add(time.Second); return h },
			[]string{"/x: mtime: want 2001-02-03T04:05:06Z, got 2001-02-03T04:05:07Z"}},
		{"type", func(h []tar.Header) []tar.Header {
			h[3] = tar.Header{Name: "x", Typeflag: tar.TypeFifo, Mode: 0o644, ModTime: old()}
			return h
		}, []string{"/x: type: want file, got fifo"}},
		{"xattr", func(h []tar.Header) []tar.Header { h[3].PAXRecords["SCHILY.xattr.user.a"] = "b"; return h },
			[]string{`/x: xattr user.a: want none, got "b"`}},
		{"missing", func(h []tar.Header) []tar.Header { return h[:3] },
			[]string{"layer 1: /x is missing", "/x: want file, got none"}},
		{"more", func(h []tar.Header) []tar.Header { return append(h, reg("y", "")) },
			[]string{"layer 1: /y is not in the wanted layer", "/y: want none, got file"}},
		{"link apart", func(h []tar.Header) []tar.Header { h[2] = reg("d/g", "data"); return h },
			[]string{`/d/f: hard links: want "/d/f /d/g", got ""`, `/d/g: hard links: want "/d/f /d/g", got ""`}},
		{"twice", func(h []tar.Header) []tar.Header { return append(h, reg("x", "1")) }, []string{"layer 1: /x stands twice"}},
		{"link before target", func(h []tar.Header) []tar.Header { h[1], h[2] = h[2], h[1]; return h }, []string{"hard link"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := new(Comparer).Compare(imageOf(t, layer(t, base()...)), imageOf(t, layer(t, test.alter(base())...)), Options{Since: old().Add(time.Hour)})
			if err != nil {
				got = []string{err.Error()}
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i := range got {
				if !strings.Contains(got[i], test.want[i]) {
					t.Errorf("got %q, want %q", got[i], test.want[i])
				}
			}
		})
	}
}

// TestFlattening holds the rules for layers on layers: what they come to must equal one plain layer.
func TestFlattening(t *testing.T) {
	wh := func(name string) tar.Header { return reg(name, "") }
	for _, test := range []struct {
		name   string
		layers [][]tar.Header
		want   []string
	}{
		{"whiteout", [][]tar.Header{{dir("d/"), reg("d/a", ""), reg("d/b", "")}, {wh("d/.wh.a")}}, []string{"d", "d/b"}},
		{"whiteout of a directory", [][]tar.Header{{dir("d/"), reg("d/a", ""), reg("da", "")}, {wh(".wh.d")}}, []string{"da"}},
		{"opaque", [][]tar.Header{{dir("d/"), reg("d/a", "")}, {dir("d/"), reg("d/b", ""), wh("d/.wh..wh..opq")}}, []string{"d", "d/b"}},
		{"opaque root", [][]tar.Header{{reg("a", "")}, {reg("b", ""), wh(".wh..wh..opq")}}, []string{"b"}},
		{"file over directory", [][]tar.Header{{dir("d/"), reg("d/a", "")}, {reg("d", "")}}, []string{"d"}},
		{"directory over directory", [][]tar.Header{{dir("d/"), reg("d/a", "")}, {dir("d/")}}, []string{"d", "d/a"}},
		{"deleted and back", [][]tar.Header{{reg("a", "")}, {wh(".wh.a")}, {reg("a", "")}}, []string{"a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var layers []v1.Layer
			for _, l := range test.layers {
				layers = append(layers, layer(t, l...))
			}
			got, err := new(Comparer).open(imageOf(t, layers...))
			if err != nil {
				t.Fatal(err)
			}
			if names := union(got.tree, nil); !slices.Equal(names, test.want) {
				t.Errorf("got %q, want %q", names, test.want)
			}
		})
	}
}

func TestCompareConfigs(t *testing.T) {
	img := imageOf(t, layer(t, reg("x", "")))
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	alter := c.DeepCopy()
	alter.Config.Env = []string{"A=1"}
	alter.Created = v1.Time{Time: old()}
	alter.History = []v1.History{{CreatedBy: "x", EmptyLayer: true}}
	other, err := mutate.ConfigFile(img, alter)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`config.config.Env: want none, got ["A=1"]`,
		`config.history[0].created_by: want none, got "x"`,
		`config.history[0].empty_layer: want none, got true`,
	}
	if got := compare(t, img, other); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
