// Package cachetest holds the tests that every cache.Store has to pass.
package cachetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// Key makes a key of a name.
func Key(name string) cache.Key { return sha256.Sum256([]byte(name)) }

// Run tests the stores that open gives: each call gives a new view of the same storage, as another
// process would have it.
func Run(t *testing.T, open func(t *testing.T) cache.Store) {
	t.Run("miss-is-ErrMiss", func(t *testing.T) {
		_, err := open(t).Get(t.Context(), Key("never put"))
		if !errors.Is(err, cache.ErrMiss) {
			t.Fatalf("Get of an unknown key: %v, want ErrMiss", err)
		}
	})
	t.Run("entry-comes-back-in-another-process", func(t *testing.T) { comesBack(t, open) })
	t.Run("empty-step-is-a-value", func(t *testing.T) {
		if err := open(t).Put(t.Context(), Key("empty"), cache.Entry{Created: time.Unix(5, 0)}); err != nil {
			t.Fatal(err)
		}
		e, err := open(t).Get(t.Context(), Key("empty"))
		if err != nil || e.Layer != nil || !e.Created.Equal(time.Unix(5, 0)) {
			t.Fatalf("Get of an entry with no layer: %+v, %v", e, err)
		}
	})
	t.Run("one-layer-under-two-keys", func(t *testing.T) { twoKeys(t, open) })
	t.Run("two-writers-on-one-key", func(t *testing.T) { twoWriters(t, open) })
}

// Layer makes a layer of bytes that are not compressed.
func Layer(contents string) v1.Layer {
	return static.NewLayer([]byte(contents), types.OCIUncompressedLayer)
}

func comesBack(t *testing.T, open func(t *testing.T) cache.Store) {
	l := Layer("some bytes")
	below := v1.Hash{Algorithm: "sha256", Hex: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}
	want := cache.Entry{Layer: l, Created: time.Unix(1700000000, 123456789).UTC(), Below: below, Content: Key("content"), Step: "RUN a\nb \"c\""}
	if err := open(t).Put(t.Context(), Key("full"), want); err != nil {
		t.Fatal(err)
	}
	got, err := open(t).Get(t.Context(), Key("full"))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Created.Equal(want.Created) || got.Below != below || got.Content != want.Content || got.Step != want.Step || got.Layer == nil {
		t.Errorf("got %+v, want %+v", got, want)
	}
	sameLayer(t, got.Layer, l)
}

// sameLayer compares all that a layer says of itself, and its bytes.
func sameLayer(t *testing.T, got, want v1.Layer) {
	t.Helper()
	gd, err1 := got.Digest()
	wd, err2 := want.Digest()
	gi, err3 := got.DiffID()
	wi, err4 := want.DiffID()
	gm, err5 := got.MediaType()
	wm, err6 := want.MediaType()
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
	if gd != wd || gi != wi || gm != wm {
		t.Errorf("layer %v %v %v, want %v %v %v", gd, gi, gm, wd, wi, wm)
	}
	if g, w := contents(t, got), contents(t, want); !bytes.Equal(g, w) {
		t.Errorf("contents %q, want %q", g, w)
	}
}

func contents(t *testing.T, l v1.Layer) []byte {
	t.Helper()
	rc, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func twoKeys(t *testing.T, open func(t *testing.T) cache.Store) {
	s := open(t)
	e := cache.Entry{Layer: Layer("shared"), Created: time.Unix(1, 0)}
	for _, k := range []string{"definition", "content"} {
		if err := s.Put(t.Context(), Key(k), e); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"definition", "content"} {
		got, err := s.Get(t.Context(), Key(k))
		if err != nil {
			t.Fatal(err)
		}
		sameLayer(t, got.Layer, e.Layer)
	}
}

func twoWriters(t *testing.T, open func(t *testing.T) cache.Store) {
	layers := []v1.Layer{Layer("first"), Layer("second")}
	stores := []cache.Store{open(t), open(t)}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			e := cache.Entry{Layer: layers[i%2], Created: time.Unix(int64(i%2), 0)}
			if err := stores[i%2].Put(t.Context(), Key("contended"), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := open(t).Get(t.Context(), Key("contended"))
	if err != nil {
		t.Fatal(err)
	}
	sameLayer(t, got.Layer, layers[got.Created.Unix()])
}
