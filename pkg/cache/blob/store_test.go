package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/dir"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
)

// hanging is a bucket that answers nothing until it is given up.
type hanging struct{}

func (hanging) String() string { return "hanging" }

func (hanging) Get(ctx context.Context, _ string, _ int64) (io.ReadCloser, error) {
	<-ctx.Done()
	return nil, ctx.Err() //nolint:forbidigo // as client libraries do
}

func (hanging) Put(ctx context.Context, _ string, _ int64, open func() (io.ReadCloser, error)) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	_, _ = rc.Read(make([]byte, 1))
	<-ctx.Done()
	return ctx.Err() //nolint:forbidigo // as client libraries do
}

func (hanging) Stat(context.Context, string) (blob.Object, error) {
	return blob.Object{}, fs.ErrNotExist
}
func (hanging) List(context.Context, string) iter.Seq2[blob.Object, error] { return nil }
func (hanging) Delete(context.Context, string) error                       { return nil }

// slowBody opens at once and then hangs.
type slowBody struct{ *dir.Bucket }

func (b slowBody) Get(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
	rc, err := b.Bucket.Get(ctx, name, off)
	if err != nil || !bytes.HasPrefix([]byte(name), []byte("blobs/")) {
		return rc, err
	}
	return &hangingReader{ReadCloser: rc, ctx: ctx}, nil
}

type hangingReader struct {
	io.ReadCloser
	ctx context.Context
}

func (r *hangingReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err() //nolint:forbidigo // as client libraries do
}

func open(t *testing.T, b blob.Bucket) *blob.Store {
	t.Helper()
	s := blob.New(b)
	s.SetStall(50 * time.Millisecond)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestHangingBucketIsGivenUp(t *testing.T) {
	e := cache.Entry{Layer: cachetest.Layer("x"), Created: time.Now()}
	s := open(t, hanging{})
	if _, err := s.Get(t.Context(), cachetest.Key("k")); !errors.Is(err, cache.ErrUnusable) {
		t.Errorf("Get: %v, want ErrUnusable", err)
	}
	if err := s.Put(t.Context(), cachetest.Key("k"), e); !errors.Is(err, cache.ErrUnusable) {
		t.Errorf("Put: %v, want ErrUnusable", err)
	}
	root := t.TempDir()
	s = open(t, slowBody{dir.Open(root)})
	if err := s.Put(t.Context(), cachetest.Key("k"), e); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), cachetest.Key("k"))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := got.Layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	var lost *cache.LostError
	if _, err := io.ReadAll(rc); !errors.As(err, &lost) || !errors.Is(err, cache.ErrUnusable) {
		t.Errorf("read of a layer that hangs: %v", err)
	}
}

func TestCloseEndsReads(t *testing.T) {
	root := t.TempDir()
	s := blob.New(slowBody{dir.Open(root)})
	if err := s.Put(t.Context(), cachetest.Key("k"), cache.Entry{Layer: cachetest.Layer("x"), Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	e, err := s.Get(t.Context(), cachetest.Key("k"))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := e.Layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.ReadAll(rc); err == nil {
			t.Error("a read went on after Close")
		}
	})
	s.Close()
	wg.Wait()
}

func TestForeignRecordsAreMisses(t *testing.T) {
	record := func(name string) []byte {
		rec, err := cache.NewRecord(cachetest.Key(name), cache.Entry{Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		b, err := rec.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, contents := range map[string][]byte{
		"empty":          {},
		"not-json":       []byte("<html>"),
		"changed":        bytes.Replace(record("k"), []byte(`"step":""`), []byte(`"step":"x"`), 1),
		"another-key":    record("other"),
		"later-version":  bytes.Replace(record("k"), []byte(`"version":1`), []byte(`"version":2`), 1),
		"larger-than-64": bytes.Repeat([]byte(" "), 70<<10),
	} {
		t.Run(name, func(t *testing.T) {
			b := dir.Open(t.TempDir())
			put := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(contents)), nil }
			if err := b.Put(t.Context(), "steps/"+cachetest.Key("k").String(), int64(len(contents)), put); err != nil {
				t.Fatal(err)
			}
			s := open(t, b)
			_, err := s.Get(t.Context(), cachetest.Key("k"))
			if !errors.Is(err, cache.ErrMiss) || err.Error() == cache.ErrMiss.Error() {
				t.Errorf("Get: %v, want ErrMiss with a reason", err)
			}
		})
	}
}
