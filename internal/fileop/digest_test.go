package fileop_test

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/internal/fileop"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

func digest(t testing.TB, c fileop.Copy) [32]byte {
	t.Helper()
	d, err := selectFiles(t, c).Digest(t.Context())
	must(t, err)
	return d
}

// TestDigestTellsApart holds trap 57: selections that make different images have different digests.
func TestDigestTellsApart(t *testing.T) {
	copies := map[string]fileop.Copy{}
	for name, spec := range map[string]string{
		"one":              "f 0644 0:0 d/a x",
		"renamed":          "f 0644 0:0 d/b x",
		"other contents":   "f 0644 0:0 d/a y",
		"longer":           "f 0644 0:0 d/a xx",
		"mode":             "f 0755 0:0 d/a x",
		"setuid":           "f 4644 0:0 d/a x",
		"two":              "f 0644 0:0 d/a x\nf 0644 0:0 d/b x",
		"hard link":        "f 0644 0:0 d/a x\nh 0644 0:0 d/b d/a",
		"split":            "f 0644 0:0 d/a \nf 0644 0:0 d/x x",
		"link":             "l 0777 0:0 d/a x",
		"other link":       "l 0777 0:0 d/a y",
		"directory":        "d 0755 0:0 d/a",
		"directory's mode": "d 0711 0:0 d/a",
		"nested":           "d 0755 0:0 d/a\nf 0644 0:0 d/a/a x",
		"beside":           "d 0755 0:0 d/a\nf 0644 0:0 d/b x",
		"fifo":             "p 0644 0:0 d/a",
		"device":           "c 0644 0:0 d/a 1,3",
		"other device":     "c 0644 0:0 d/a 1,5",
		"empty":            "",
	} {
		copies[name] = fileop.Copy{Sources: []fileop.Source{{Tree: specTree(t, "d 0755 0:0 d\n"+spec), Path: "d"}}}
	}
	tree := specTree(t, "f 0644 0:0 a x\nf 0644 0:0 b x\nf 0644 1:0 c x\nf 0644 0:1 e x")
	source := func(paths ...string) (all []fileop.Source) {
		for _, p := range paths {
			all = append(all, fileop.Source{Tree: tree, Path: p})
		}
		return all
	}
	for name, s := range map[string][]fileop.Source{
		"file a": source("a"), "file b": source("b"), "a and b": source("a", "b"), "b and a": source("b", "a"), "a twice": source("a", "a"),
		"kept owner":       {{Tree: tree, Path: "c", KeepOwner: true}},
		"kept group":       {{Tree: tree, Path: "e", KeepOwner: true}},
		"heredoc":          {{Inline: &fileop.Inline{Name: "EOF", Data: "a", Mode: 0o644}}},
		"heredoc's name":   {{Inline: &fileop.Inline{Name: "END", Data: "a", Mode: 0o644}}},
		"heredoc's body":   {{Inline: &fileop.Inline{Name: "EOF", Data: "b", Mode: 0o644}}},
		"heredoc's mode":   {{Inline: &fileop.Inline{Name: "EOF", Data: "a", Mode: 0o755}}},
		"heredoc, framing": {{Inline: &fileop.Inline{Name: "EO", Data: "Fa", Mode: 0o644}}},
	} {
		copies[name] = fileop.Copy{Sources: s}
	}
	nested := specTree(t, "d 0755 0:0 d\nd 0755 0:0 d/e\nf 0644 0:0 d/e/f x")
	for name, exclude := range map[string][]string{"selected parent": nil, "implied parent": {"e", "!e/f"}} {
		copies[name] = fileop.Copy{Sources: []fileop.Source{{Tree: nested, Path: "d"}}, Exclude: exclude}
	}
	for name, records := range map[string]map[string]string{
		"attribute": {"SCHILY.xattr.user.a": "bc"}, "attribute, framing": {"SCHILY.xattr.user.ab": "c"},
	} {
		h := tar.Header{Typeflag: tar.TypeReg, Name: "f", PAXRecords: records}
		copies[name] = fileop.Copy{Sources: []fileop.Source{{Tree: oneFile{header: &h}, Path: "f"}}}
	}
	seen := map[[32]byte]string{}
	for name, c := range copies {
		c.Dest = "/"
		d := digest(t, c)
		if other, ok := seen[d]; ok {
			t.Errorf("%q and %q have one digest", name, other)
		}
		seen[d] = name
	}
}

// TestDigestNormalises holds trap 56: what the image does not show is not in the key.
func TestDigestNormalises(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	writeSpec(t, dirs[0], "d 0755 0:0 d\nd 0755 0:0 d/e\nf 0644 0:0 d/f x")
	writeSpec(t, dirs[1], "d 0700 5:6 d\nd 0755 7:8 d/e\nf 0644 9:9 d/f x")
	now := time.Now()
	must(t, os.Chtimes(filepath.Join(dirs[1], "d", "f"), now, now))
	var got [2][32]byte
	for i, dir := range dirs {
		got[i] = digest(t, fileop.Copy{Sources: []fileop.Source{{Tree: diskTree(t, dir), Path: "d"}}, Dest: "/"})
	}
	if got[0] != got[1] {
		t.Error("times, owners of a checkout, or the mode of the directory whose contents are copied, are in the digest")
	}
	c := fileop.Copy{Sources: []fileop.Source{{Tree: diskTree(t, dirs[1]), Path: "d", KeepOwner: true}}, Dest: "/"}
	if digest(t, c) == got[1] {
		t.Error("kept owners are not in the digest")
	}
	c.Chown = "0"
	if digest(t, c) != got[1] {
		t.Error("owners that are not kept are in the digest")
	}
}

// TestDigestOfLayer: a file's digest is the same whether its contents have to be read or are known from a layer's index.
func TestDigestOfLayer(t *testing.T) {
	disk := specTree(t, "d 0755 0:0 d\nf 0644 0:0 d/a x\nf 0644 0:0 d/empty\nh 0644 0:0 d/b d/a")
	layer := layers(t, fileop.Copy{Sources: []fileop.Source{{Tree: disk, Path: "."}}, Dest: "/"})
	var got [2][32]byte
	for i, tree := range []rootfs.Tree{disk, noOpen{layer}} {
		got[i] = digest(t, fileop.Copy{Sources: []fileop.Source{{Tree: tree, Path: "d"}}, Dest: "/"})
	}
	if got[0] != got[1] {
		t.Error("they differ")
	}
}

// noOpen is a tree whose files must not be read.
type noOpen struct{ rootfs.Tree }

func (noOpen) Open(string) (fs.File, error) { return nil, errors.New("opened") }
