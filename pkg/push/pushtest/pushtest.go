// Package pushtest holds what every push.Exporter has to do, as tests.
package pushtest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/push"
)

// Target is one place to export to.
type Target struct {
	// New returns an exporter to the place. Calls may share one, or not.
	New func(t *testing.T) push.Exporter
	// Read tells what is in the place now. When there is nothing that could be taken for an image, the error wraps
	// fs.ErrNotExist.
	Read func(t *testing.T) (Found, error)
	// Partial says that the place shows an export while it goes on, as a directory does.
	Partial bool
}

// Found is what was read back.
type Found struct {
	// Digest is that of the manifest; zero where the place keeps none.
	Digest v1.Hash
	// ID is the contents of the file of that name.
	ID string
}

// IDFile is the name of a file in each image of the suite that no other has the contents of.
const IDFile = "id"

// Platform is that of the images.
var Platform = v1.Platform{OS: "linux", Architecture: "amd64"} //nolint:gochecknoglobals // a constant

// Run tests the exporters to the places that newTarget makes, a new one for each test.
func Run(t *testing.T, newTarget func(t *testing.T) Target) {
	t.Helper()
	for _, tc := range []struct {
		name string
		test func(*testing.T, Target)
	}{
		{"reads back what the receipt says", testReadsBack},
		{"is idempotent", testIdempotent},
		{"replaces what was there", testReplaces},
		{"may be used by many at once", testConcurrent},
		{"leaves nothing for whole when cancelled", testCancelled},
		{"leaves nothing for whole when a layer cannot be read", testUnreadable},
		{"keeps what was there when it fails", testKeeps},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, newTarget(t)) })
	}
}

func testReadsBack(t *testing.T, target Target) {
	img := Image(t, "one")
	receipts := export(t, target, img)
	if len(receipts) == 0 {
		t.Fatal("no receipt")
	}
	for _, r := range receipts {
		if r.Digest != digest(t, img) {
			t.Errorf("the receipt says %v, the image has %v", r.Digest, digest(t, img))
		}
	}
	expect(t, target, img, "one")
}

func testIdempotent(t *testing.T, target Target) {
	img := Image(t, "one")
	first := export(t, target, img)
	second := export(t, target, img)
	if fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("receipts differ: %v, then %v", first, second)
	}
	expect(t, target, img, "one")
}

func testReplaces(t *testing.T, target Target) {
	export(t, target, Image(t, "one"))
	two := Image(t, "two")
	export(t, target, two)
	expect(t, target, two, "two")
}

func testConcurrent(t *testing.T, target Target) {
	img := Image(t, "one")
	shared := target.New(t)
	var wg sync.WaitGroup
	for i := range 4 {
		e := shared
		if i%2 == 1 {
			e = target.New(t)
		}
		wg.Go(func() {
			if _, err := e.Export(t.Context(), artifact(img)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	expect(t, target, img, "one")
}

func testCancelled(t *testing.T, target Target) {
	why := errors.New("nobody wants it any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	img := withLayer(t, Image(t, "one"), &badLayer{Layer: tarLayer(t, "last", "x"), before: func() { cancel(why) }})
	_, err := target.New(t).Export(ctx, artifact(img))
	if !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
	nothing(t, target)
}

func testUnreadable(t *testing.T, target Target) {
	img := withLayer(t, Image(t, "one"), &badLayer{Layer: tarLayer(t, "last", "x"), err: errUnreadable})
	if _, err := target.New(t).Export(t.Context(), artifact(img)); !errors.Is(err, errUnreadable) {
		t.Errorf("got %v, want the reader's error", err)
	}
	nothing(t, target)
	// And it does not stand in the way.
	good := Image(t, "two")
	export(t, target, good)
	expect(t, target, good, "two")
}

func testKeeps(t *testing.T, target Target) {
	if target.Partial {
		return
	}
	one := Image(t, "one")
	export(t, target, one)
	bad := withLayer(t, Image(t, "two"), &badLayer{Layer: tarLayer(t, "last", "x"), err: errUnreadable})
	if _, err := target.New(t).Export(t.Context(), artifact(bad)); err == nil {
		t.Error("no error")
	}
	expect(t, target, one, "one")
}

func artifact(img v1.Image) push.Artifact { return push.Artifact{Image: img, Platform: Platform} }

func export(t *testing.T, target Target, img v1.Image) []push.Receipt {
	t.Helper()
	r, err := target.New(t).Export(t.Context(), artifact(img))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func expect(t *testing.T, target Target, img v1.Image, id string) {
	t.Helper()
	found, err := target.Read(t)
	if err != nil {
		t.Fatal(err)
	}
	if found.ID != id {
		t.Errorf("read back image %q, want %q", found.ID, id)
	}
	if found.Digest != (v1.Hash{}) && found.Digest != digest(t, img) {
		t.Errorf("read back digest %v, want %v", found.Digest, digest(t, img))
	}
}

func nothing(t *testing.T, target Target) {
	t.Helper()
	if target.Partial {
		return
	}
	if found, err := target.Read(t); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read back %+v, %v; want nothing", found, err)
	}
}

func digest(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Image returns an image of three layers, two of them the same, with the file that tells it.
func Image(t testing.TB, id string) v1.Image {
	t.Helper()
	same := tarLayer(t, "same", strings.Repeat("same", 1000))
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		same, tarLayer(t, IDFile, id), same)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = Platform.OS, Platform.Architecture
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

// ID reads the contents of the file that tells an image.
func ID(t testing.TB, img v1.Image) string {
	t.Helper()
	rc := mutate.Extract(img)
	defer rc.Close()
	return IDInTar(t, rc)
}

// IDInTar is [ID] for a tar of the root filesystem.
func IDInTar(t testing.TB, r io.Reader) string {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			t.Fatalf("look for %s: %v", IDFile, err)
		}
		if h.Name == IDFile {
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
	}
}

func tarLayer(t testing.TB, name, contents string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(contents)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, contents); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func withLayer(t *testing.T, img v1.Image, l v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(img, l)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

var errUnreadable = errors.New("this layer cannot be read") //nolint:gochecknoglobals // a sentinel

// badLayer does something before it is read, and fails if err is not nil.
type badLayer struct {
	v1.Layer
	before func()
	err    error
}

// Compressed implements v1.Layer.
func (l *badLayer) Compressed() (io.ReadCloser, error) { return l.open(l.Layer.Compressed) }

// Uncompressed implements v1.Layer.
func (l *badLayer) Uncompressed() (io.ReadCloser, error) { return l.open(l.Layer.Uncompressed) }

func (l *badLayer) open(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	if l.before != nil {
		l.before()
	}
	rc, err := open()
	if err != nil || l.err == nil {
		return rc, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(rc, 10), failing{l.err}), rc}, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
