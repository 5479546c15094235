package overlay_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/overlay"
)

// TestContentsAreThoseOfTheLayer reads a file from where it was extracted, and nothing that only looks like it.
func TestContentsAreThoseOfTheLayer(t *testing.T) {
	when := time.Unix(1_600_000_000, 5)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "dir/file", Mode: 0o644, Size: 5, ModTime: when, Format: tar.FormatPAX},
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "dir/file", ModTime: when, Format: tar.FormatPAX},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("hello")[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	diffID, err := layer.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	d := overlay.New(overlay.Options{Dir: t.TempDir()})
	record := func(name string, size int64, when time.Time) *rootfs.Record {
		return &rootfs.Record{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, ModTime: when}}
	}
	absent := func(why string, diffID v1.Hash, rec *rootfs.Record) {
		t.Helper()
		if rc, err := d.Contents(diffID, rec); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v; want that it does not exist", why, rc, err)
		}
	}
	absent("nothing was extracted", diffID, record("dir/file", 5, when))
	root, err := d.Open(t.Context(), []v1.Layer{layer})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	rc, err := d.Contents(diffID, record("dir/file", 5, when))
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if got, err := io.ReadAll(rc); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	absent("another size", diffID, record("dir/file", 4, when))
	absent("another time", diffID, record("dir/file", 5, when.Add(1)))
	absent("a link", diffID, record("link", 5, when))
	absent("out of the layer", diffID, record("../../lock", 0, when))
	absent("a directory", diffID, record("dir", 5, when))
	absent("another layer", v1.Hash{Algorithm: "sha256", Hex: "00"}, record("dir/file", 5, when))
}
