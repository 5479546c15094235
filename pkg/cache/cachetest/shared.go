package cachetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Shared is what a backend is that machines share: entries, file indexes, notes, and listings.
type Shared interface {
	cache.Store
	cache.Keeper
	cache.Notes
	rootfs.Indexes
}

// Backend is a backend under test, and ways to look behind it.
type Backend struct {
	// Open gives a new view of the same storage, as another machine would have it.
	Open func(t *testing.T) Shared
	// Reads returns how often a blob was asked for.
	Reads func() int
	// Damage makes the blob with this digest come back with other bytes from now on.
	Damage func(t *testing.T, digest v1.Hash)
	// Lose makes the blob go away.
	Lose func(t *testing.T, digest v1.Hash)
}

// Proxied fills in how to look behind a backend that is reached through p. Paths of blobs contain blobs and the digest's
// hexadecimal digits.
func Proxied(p *registrytest.Proxy, blobs string, open func(t *testing.T) Shared) Backend {
	fault := func(f registrytest.Fault) func(*testing.T, v1.Hash) {
		return func(_ *testing.T, digest v1.Hash) {
			p.Inject(func(r *http.Request, next http.Handler) http.Handler {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, digest.Hex) {
					return nil
				}
				return f(r, next)
			})
		}
	}
	return Backend{
		Open:   open,
		Reads:  func() int { return p.Count(http.MethodGet, blobs) },
		Damage: fault(registrytest.Corrupt()),
		Lose:   fault(registrytest.Status(http.StatusNotFound)),
	}
}

// RunShared tests a backend that machines share. It includes [Run].
func RunShared(t *testing.T, b Backend) {
	Run(t, func(t *testing.T) cache.Store { return b.Open(t) })
	for name, test := range map[string]func(*testing.T, Backend){
		"get-reads-no-layer":            readsNoLayer,
		"damaged-layer-is-an-error":     damagedLayer,
		"lost-layer-is-an-error":        lostLayer,
		"same-entry-twice-is-one":       idempotent,
		"expired-entry-is-replaced":     replaced,
		"list-and-delete":               listAndDelete,
		"index-comes-back":              indexComesBack,
		"layer-brings-its-index":        layerBringsIndex,
		"damaged-index-does-not-exist":  damagedIndex,
		"note-comes-back":               noteComesBack,
		"of-two-notes-one-stays-whole":  twoNotes,
		"damaged-note-is-missing":       damagedNote,
		"put-needs-the-bytes-it-claims": falseLayer,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
}

func mustPut(t *testing.T, s cache.Store, name string, e cache.Entry) {
	t.Helper()
	if err := s.Put(t.Context(), Key(name), e); err != nil {
		t.Fatal(err)
	}
}

func mustGet(t *testing.T, s cache.Store, name string) cache.Entry {
	t.Helper()
	e, err := s.Get(t.Context(), Key(name))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func digestOf(t *testing.T, l v1.Layer) v1.Hash {
	t.Helper()
	h, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func readsNoLayer(t *testing.T, b Backend) {
	want := Layer("bytes that nobody needs")
	mustPut(t, b.Open(t), "lazy", cache.Entry{Layer: want, Created: time.Now()})
	before := b.Reads()
	got := mustGet(t, b.Open(t), "lazy").Layer
	digest, err1 := got.Digest()
	_, err2 := got.DiffID()
	size, err3 := got.Size()
	_, err4 := got.MediaType()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if n := b.Reads() - before; n != 0 {
		t.Errorf("%d blobs were asked for by a Get", n)
	}
	if digest != digestOf(t, want) || size != int64(len("bytes that nobody needs")) {
		t.Errorf("digest %v, size %d", digest, size)
	}
	contents(t, got)
	if n := b.Reads() - before; n != 1 {
		t.Errorf("%d blobs were asked for to read a layer", n)
	}
}

// unreadable checks that the bytes of a layer do not end well, and that the error says whose they were.
func unreadable(t *testing.T, e cache.Entry, name string) {
	t.Helper()
	for how, open := range map[string]func() (io.ReadCloser, error){"compressed": e.Layer.Compressed, "uncompressed": e.Layer.Uncompressed} {
		rc, err := open()
		if err == nil {
			_, err = io.ReadAll(rc)
			rc.Close()
		}
		var lost *cache.LostError
		if !errors.As(err, &lost) || lost.Key != Key(name) {
			t.Errorf("read %s layer: %v, want a LostError of %v", how, err, Key(name))
		}
	}
}

func damagedLayer(t *testing.T, b Backend) {
	l := Layer("bytes that will be damaged")
	mustPut(t, b.Open(t), "damaged", cache.Entry{Layer: l, Created: time.Now()})
	b.Damage(t, digestOf(t, l))
	unreadable(t, mustGet(t, b.Open(t), "damaged"), "damaged")
}

func lostLayer(t *testing.T, b Backend) {
	l := Layer("bytes that will be lost")
	mustPut(t, b.Open(t), "lost", cache.Entry{Layer: l, Created: time.Now()})
	b.Lose(t, digestOf(t, l))
	unreadable(t, mustGet(t, b.Open(t), "lost"), "lost")
}

func names(t *testing.T, s Shared) map[string]cache.Item {
	t.Helper()
	items, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]cache.Item{}
	for _, it := range items {
		if _, twice := m[it.Name]; twice {
			t.Errorf("%q is listed twice", it.Name)
		}
		m[it.Name] = it
	}
	return m
}

func idempotent(t *testing.T, b Backend) {
	e := cache.Entry{Layer: Layer("once"), Created: time.Unix(100, 0)}
	before := len(names(t, b.Open(t)))
	for range 3 {
		mustPut(t, b.Open(t), "idempotent", e)
	}
	sameLayer(t, mustGet(t, b.Open(t), "idempotent").Layer, e.Layer)
	if n := len(names(t, b.Open(t))) - before; n != 1 {
		t.Errorf("%d items after the same entry was put three times", n)
	}
}

func replaced(t *testing.T, b Backend) {
	old := cache.Entry{Layer: Layer("old"), Created: time.Now().Add(-time.Hour)}
	fresh := cache.Entry{Layer: Layer("fresh"), Created: time.Now()}
	expiring := cache.Expire(b.Open(t), time.Minute)
	mustPut(t, expiring, "expired", old)
	var expired *cache.ExpiredError
	if _, err := expiring.Get(t.Context(), Key("expired")); !errors.As(err, &expired) || !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get of an expired entry: %v", err)
	}
	mustPut(t, expiring, "expired", fresh)
	sameLayer(t, mustGet(t, expiring, "expired").Layer, fresh.Layer)
}

func listAndDelete(t *testing.T, b Backend) {
	s := b.Open(t)
	l := Layer("listed")
	mustPut(t, s, "kept", cache.Entry{Layer: l, Created: time.Unix(1, 0), Step: "RUN kept"})
	mustPut(t, s, "deleted", cache.Entry{Layer: l, Created: time.Unix(2, 0), Step: "RUN deleted"})
	mustPut(t, s, "deleted-empty", cache.Entry{Created: time.Unix(3, 0), Step: "RUN true"})
	all := names(t, b.Open(t))
	it := all[Key("deleted").String()]
	if it.Key != Key("deleted") || it.Step != "RUN deleted" || !it.Created.Equal(time.Unix(2, 0)) ||
		it.Layer == nil || it.Layer.Digest != digestOf(t, l) || it.Size < int64(len("listed")) || it.Problem != "" {
		t.Errorf("listed as %+v", it)
	}
	for range 2 { // the second time they are gone
		if err := s.Delete(t.Context(), []cache.Item{it, all[Key("deleted-empty").String()]}); err != nil {
			t.Fatal(err)
		}
	}
	for _, gone := range []string{"deleted", "deleted-empty"} {
		if _, err := b.Open(t).Get(t.Context(), Key(gone)); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("Get of %s: %v, want ErrMiss", gone, err)
		}
	}
	sameLayer(t, mustGet(t, b.Open(t), "kept").Layer, l)
}

// indexOf returns the diff ID of a layer with one file, and its index.
func indexOf(t *testing.T, name string) (v1.Hash, *rootfs.Index) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err1 := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 3, Mode: 0o640, ModTime: time.Unix(7, 0)})
	_, err2 := w.Write([]byte("abc"))
	if err := errors.Join(err1, err2, w.Close()); err != nil {
		t.Fatal(err)
	}
	x, err := rootfs.ReadIndex(bytes.NewReader(b.Bytes()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return digestOf(t, Layer(b.String())), x
}

func sameIndex(t *testing.T, s Shared, diffID v1.Hash, want *rootfs.Index) {
	t.Helper()
	got, err := s.Index(t.Context(), diffID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Collect(want.All()), slices.Collect(got.All())); diff != "" {
		t.Error(diff)
	}
}

func indexComesBack(t *testing.T, b Backend) {
	diffID, x := indexOf(t, "a")
	if _, err := b.Open(t).Index(t.Context(), diffID); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Index of a layer that nobody indexed: %v, want ErrNotExist", err)
	}
	for range 2 {
		if err := b.Open(t).PutIndex(t.Context(), diffID, x); err != nil {
			t.Fatal(err)
		}
	}
	sameIndex(t, b.Open(t), diffID, x)
	s := b.Open(t)
	it, ok := names(t, s)["index-"+diffID.Hex]
	if !ok || it.Problem != "" || time.Since(it.Created).Abs() > time.Hour {
		t.Errorf("listed as %+v", it)
	}
	if err := s.Delete(t.Context(), []cache.Item{it}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t).Index(t.Context(), diffID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Index after it was deleted: %v, want ErrNotExist", err)
	}
}

// indexed is a layer that knows its files, as those that were just written do.
type indexed struct {
	v1.Layer
	index *rootfs.Index
}

func (l indexed) FileIndex() *rootfs.Index { return l.index }

func layerBringsIndex(t *testing.T, b Backend) {
	_, x := indexOf(t, "b")
	l := Layer("a layer with an index")
	mustPut(t, b.Open(t), "indexed", cache.Entry{Layer: indexed{l, x}, Created: time.Now()})
	sameIndex(t, b.Open(t), digestOf(t, l), x)
}

func damagedIndex(t *testing.T, b Backend) {
	diffID, x := indexOf(t, "c")
	s := b.Open(t)
	if err := s.PutIndex(t.Context(), diffID, x); err != nil {
		t.Fatal(err)
	}
	// Where an index is kept in a blob of its own it is known by that, and otherwise by the diff ID.
	if it := names(t, s)["index-"+diffID.Hex]; it.Layer != nil {
		b.Damage(t, it.Layer.Digest)
	} else {
		b.Damage(t, diffID)
	}
	if _, err := b.Open(t).Index(t.Context(), diffID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Index that is damaged: %v, want ErrNotExist", err)
	}
}

// liar is a layer with other bytes than it claims.
type liar struct{ v1.Layer }

func (liar) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("not what was promised, not at all")), nil
}

func falseLayer(t *testing.T, b Backend) {
	l := Layer("what was promised, all of it ....")
	s := b.Open(t)
	if err := s.Put(context.WithoutCancel(t.Context()), Key("false"), cache.Entry{Layer: liar{l}, Created: time.Now()}); err == nil {
		t.Fatal("a layer with other bytes than its digest's was put")
	}
	if _, err := b.Open(t).Get(t.Context(), Key("false")); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get after a Put that failed: %v, want ErrMiss", err)
	}
}
