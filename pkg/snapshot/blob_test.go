package snapshot_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

func TestBlobMoved(t *testing.T) {
	b := write(t, snapshot.Options{}, file("a", "x"))
	d := t.TempDir()
	if err := b.Rename(filepath.Join(d, "1")); err != nil {
		t.Fatal(err)
	}
	if err := validate.Layer(b); err != nil {
		t.Error(err)
	}
	if err := os.Rename(b.Location(), filepath.Join(d, "2")); err != nil {
		t.Fatal(err)
	}
	b.Moved(filepath.Join(d, "2"))
	if err := validate.Layer(b); err != nil {
		t.Error(err)
	}
}

func TestOpenBlob(t *testing.T) {
	for _, c := range []snapshot.Compression{snapshot.Gzip, snapshot.Zstd, snapshot.Uncompressed} {
		b := write(t, snapshot.Options{Compression: c}, oneOfEach()...)
		desc, _ := b.Descriptor()
		diffID, _ := b.DiffID()
		again := snapshot.OpenBlob(b.Path, *desc, diffID)
		checkTar(t, again, oneOfEach())
		// Media types lie; the bytes do not.
		desc.MediaType = types.OCIUncompressedLayer
		checkTar(t, snapshot.OpenBlob(b.Path, *desc, diffID), oneOfEach())
	}
	b := snapshot.OpenBlob("/nonexistent", v1.Descriptor{}, v1.Hash{})
	if _, err := b.Compressed(); err == nil {
		t.Error("no error for a missing file")
	}
	if _, err := b.Uncompressed(); err == nil {
		t.Error("no error for a missing file")
	}
}

func TestVerify(t *testing.T) {
	digest, _, err := v1.SHA256(strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		data string
		size int64
		ok   bool
	}{{"hello", 5, true}, {"hello", -1, true}, {"hallo", 5, false}, {"hallo", -1, false}, {"hell", 5, false}, {"hello!", 5, false}, {"", 5, false}} {
		got, err := io.ReadAll(snapshot.Verify(io.NopCloser(strings.NewReader(c.data)), digest, c.size))
		if (err == nil) != c.ok || (c.ok && !bytes.Equal(got, []byte(c.data))) {
			t.Errorf("%q of size %d: %q, %v", c.data, c.size, got, err)
		}
	}
}

// TestVerifyWithholdsTheLastBytes holds that who reads as many bytes as there are to be, and no further, as HTTP clients do
// with bodies, does not get all of false ones.
func TestVerifyWithholdsTheLastBytes(t *testing.T) {
	digest, _, err := v1.SHA256(strings.NewReader("the right bytes"))
	if err != nil {
		t.Fatal(err)
	}
	const wrong = "the wrong bytes"
	r := io.LimitReader(snapshot.Verify(io.NopCloser(iotest.OneByteReader(strings.NewReader(wrong))), digest, int64(len(wrong))), int64(len(wrong)))
	if got, err := io.ReadAll(r); err == nil || len(got) == len(wrong) {
		t.Errorf("read %q, %v", got, err)
	}
}
