package cachetest

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

func mustPutNote(t *testing.T, s Shared, name, data string) {
	t.Helper()
	if err := s.PutNote(t.Context(), Key(name), []byte(data)); err != nil {
		t.Error(err)
	}
}

func noteComesBack(t *testing.T, b Backend) {
	if _, err := b.Open(t).Note(t.Context(), Key("note")); !errors.Is(err, cache.ErrMiss) {
		t.Fatalf("Note that nobody put: %v, want ErrMiss", err)
	}
	for _, want := range []string{"first", "", "second", strings.Repeat("long\x00", 1<<20)} {
		mustPutNote(t, b.Open(t), "note", want)
		if got, err := b.Open(t).Note(t.Context(), Key("note")); err != nil || string(got) != want {
			t.Fatalf("a note of %d bytes comes back as one of %d, %v", len(want), len(got), err)
		}
	}
	s := b.Open(t)
	it, ok := names(t, s)["note-"+Key("note").String()]
	if !ok || it.Problem != "" || time.Since(it.Created).Abs() > time.Hour || it.Size < 5<<20 {
		t.Errorf("listed as %+v", it)
	}
	if err := s.Delete(t.Context(), []cache.Item{it}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t).Note(t.Context(), Key("note")); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Note after it was deleted: %v, want ErrMiss", err)
	}
}

func twoNotes(t *testing.T, b Backend) {
	notes := []string{strings.Repeat("a", 10_000), strings.Repeat("b", 10_001)}
	stores := []Shared{b.Open(t), b.Open(t)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { mustPutNote(t, stores[i%2], "contended", notes[i%2]) })
	}
	wg.Wait()
	got, err := b.Open(t).Note(t.Context(), Key("contended"))
	if err != nil || !bytes.Equal(got, []byte(notes[0])) && !bytes.Equal(got, []byte(notes[1])) {
		t.Errorf("the note has %d bytes, %v", len(got), err)
	}
}

func damagedNote(t *testing.T, b Backend) {
	s := b.Open(t)
	mustPutNote(t, s, "damaged note", "what will be damaged")
	// Where a note is kept in a blob of its own it is known by that, and otherwise by its name.
	if it := names(t, s)["note-"+Key("damaged note").String()]; it.Layer != nil {
		b.Damage(t, it.Layer.Digest)
	} else {
		b.Damage(t, v1.Hash{Algorithm: "sha256", Hex: Key("damaged note").String()})
	}
	if got, err := b.Open(t).Note(t.Context(), Key("damaged note")); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Note that is damaged: %q, %v, want ErrMiss", got, err)
	}
}
