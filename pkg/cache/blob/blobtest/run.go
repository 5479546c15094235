package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// Buckets opens the bucket under test, through the proxy that [Run] was given.
type Buckets struct {
	// Open puts prefix before all names.
	Open func(t *testing.T, prefix string) blob.Bucket
	// Refused opens it with credentials that are wrong; nil where there are none.
	Refused func(t *testing.T) blob.Bucket
	// Unreachable opens one at an address where nobody listens.
	Unreachable func(t *testing.T, host string) blob.Bucket
}

// Run tests a bucket behind p, and a store in it.
func Run(t *testing.T, p *registrytest.Proxy, b Buckets) {
	t.Run("store", func(t *testing.T) {
		cachetest.RunShared(t, cachetest.Proxied(p, "blobs", func(t *testing.T) cachetest.Shared {
			return store(t, b.Open(t, "store/"))
		}))
	})
	t.Run("layer-goes-on-after-a-cut", func(t *testing.T) { resumes(t, p, b) })
	t.Run("bucket", func(t *testing.T) { contract(t, b) })
	t.Run("large-object", func(t *testing.T) { large(t, b.Open(t, "large/")) })
	t.Run("many-objects", func(t *testing.T) { many(t, b.Open(t, "many/")) })
	t.Run("failed-put-leaves-what-was", func(t *testing.T) { failedPut(t, b.Open(t, "failed/")) })
	t.Run("busy-server-is-asked-again", func(t *testing.T) {
		p.Inject(registrytest.Times(1, http.MethodPut, "busy/", registrytest.Status(http.StatusServiceUnavailable)))
		p.Inject(registrytest.Times(1, http.MethodPost, "/upload/", registrytest.Status(http.StatusServiceUnavailable)))
		p.Inject(registrytest.Times(2, http.MethodGet, "busy", registrytest.Status(http.StatusServiceUnavailable)))
		Usable(t, b.Open(t, "busy/"))
	})
	t.Run("nobody-listens", func(t *testing.T) { unusable(t, b.Unreachable(t, registrytest.Nobody(t))) })
	if b.Refused != nil {
		t.Run("wrong-credentials", func(t *testing.T) { unusable(t, b.Refused(t)) })
	}
}

func store(t *testing.T, b blob.Bucket) *blob.Store {
	t.Helper()
	s := blob.New(b)
	t.Cleanup(func() { s.Close() })
	return s
}

// Usable checks that what is put into a bucket comes back.
func Usable(t *testing.T, b blob.Bucket) {
	t.Helper()
	put(t, b, "steps/usable", "contents")
	if got := get(t, b, "steps/usable"); got != "contents" {
		t.Errorf("got %q", got)
	}
}

func put(t *testing.T, b blob.Bucket, name, contents string) {
	t.Helper()
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(contents)), nil }
	if err := b.Put(t.Context(), name, int64(len(contents)), open); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, b blob.Bucket, name string) string {
	t.Helper()
	rc, err := b.Get(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func list(t *testing.T, b blob.Bucket, prefix string) []blob.Object {
	t.Helper()
	var all []blob.Object
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

func contract(t *testing.T, buckets Buckets) {
	b := buckets.Open(t, "contract/")
	if _, err := b.Get(t.Context(), "steps/none", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of nothing: %v", err)
	}
	if _, err := b.Stat(t.Context(), "steps/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of nothing: %v", err)
	}
	if err := b.Delete(t.Context(), "steps/none"); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	if all := list(t, b, "steps/"); len(all) != 0 {
		t.Errorf("List of nothing: %v", all)
	}
	put(t, b, "steps/a", "first")
	put(t, b, "steps/a", "second one")
	put(t, b, "steps/empty", "")
	put(t, b, "blobs/a", "other")
	put(t, buckets.Open(t, "contract-of-another/"), "steps/b", "not ours")
	if got := get(t, b, "steps/a"); got != "second one" {
		t.Errorf("got %q, want what was put last", got)
	}
	if rc, err := b.Get(t.Context(), "steps/a", 7); err != nil {
		t.Errorf("Get from an offset: %v", err)
	} else {
		got, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || string(got) != "one" {
			t.Errorf("Get from an offset: %q, %v", got, err)
		}
	}
	if o, err := b.Stat(t.Context(), "steps/a"); err != nil || o.Name != "steps/a" || o.Size != 10 || o.Modified.IsZero() {
		t.Errorf("Stat: %+v, %v", o, err)
	}
	var names []string
	for _, o := range list(t, b, "steps/") {
		names = append(names, o.Name+" "+strconv.FormatInt(o.Size, 10))
	}
	slices.Sort(names)
	if want := []string{"steps/a 10", "steps/empty 0"}; !slices.Equal(names, want) {
		t.Errorf("listed %q, want %q", names, want)
	}
	if err := b.Delete(t.Context(), "steps/a"); err != nil {
		t.Error(err)
	}
	if _, err := b.Get(t.Context(), "steps/a", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get after Delete: %v", err)
	}
}

// resumes reads a layer through connections that are cut.
func resumes(t *testing.T, p *registrytest.Proxy, b Buckets) {
	contents := strings.Repeat("0123456789", 50_000)
	e := cache.Entry{Layer: cachetest.Layer(contents), Created: time.Now()}
	if err := store(t, b.Open(t, "cut/")).Put(t.Context(), cachetest.Key("cut"), e); err != nil {
		t.Fatal(err)
	}
	digest, err := e.Layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	p.Reset()
	p.Inject(registrytest.Times(2, http.MethodGet, digest.Hex, registrytest.CutResponse(100_000)))
	got, err := store(t, b.Open(t, "cut/")).Get(t.Context(), cachetest.Key("cut"))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := got.Layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if all, err := io.ReadAll(rc); err != nil || string(all) != contents {
		t.Errorf("read %d bytes, %v", len(all), err)
	}
	if n := p.Count(http.MethodGet, digest.Hex); n != 3 {
		t.Errorf("%d requests, want one and two more after the cuts", n)
	}
}

// endless gives bytes that do not repeat soon.
type endless struct{ n uint64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		e.n = e.n*6364136223846793005 + 1442695040888963407
		p[i] = byte(e.n >> 56)
	}
	return len(p), nil
}

// large puts an object of more than two parts from a reader that cannot seek.
func large(t *testing.T, b blob.Bucket) {
	const size = 40<<20 + 1
	open := func() (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(&endless{}, size)), nil }
	if err := b.Put(t.Context(), "blobs/large", size, open); err != nil {
		t.Fatal(err)
	}
	rc, err := b.Get(t.Context(), "blobs/large", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	want := &endless{}
	got, chunk := make([]byte, 64<<10), make([]byte, 64<<10)
	var total int64
	for {
		n, err := io.ReadFull(rc, got)
		_, _ = want.Read(chunk[:n])
		if !bytes.Equal(got[:n], chunk[:n]) {
			t.Fatalf("other bytes after %d", total)
		}
		total += int64(n)
		if err != nil {
			break
		}
	}
	if total != size {
		t.Errorf("read %d bytes, want %d", total, int64(size))
	}
}

// many lists more objects than a page has where pages are smallest.
func many(t *testing.T, b blob.Bucket) {
	const n = 30
	for i := range n {
		put(t, b, "steps/"+strconv.Itoa(i), "x")
	}
	if got := len(list(t, b, "steps/")); got != n {
		t.Errorf("listed %d objects of %d", got, n)
	}
	for range b.List(t.Context(), "steps/") {
		break // an early end is no trouble
	}
}

func failedPut(t *testing.T, b blob.Bucket) {
	put(t, b, "steps/a", "before")
	broken := errors.New("the disk broke")
	const size = 20 << 20
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(io.LimitReader(&endless{}, size-1), failing{broken})), nil
	}
	if err := b.Put(t.Context(), "steps/a", size, open); !errors.Is(err, broken) {
		t.Errorf("Put of what cannot be read: %v", err)
	}
	if got := get(t, b, "steps/a"); got != "before" {
		t.Errorf("after a Put that failed there are %d other bytes", len(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Put(ctx, "steps/a", 1, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }); err == nil {
		t.Error("Put with a context that has ended succeeded")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func unusable(t *testing.T, b blob.Bucket) {
	t.Helper()
	_, getErr := b.Get(t.Context(), "steps/a", 0)
	_, statErr := b.Stat(t.Context(), "steps/a")
	putErr := b.Put(t.Context(), "steps/a", 1, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil })
	for op, err := range map[string]error{"Get": getErr, "Stat": statErr, "Put": putErr} {
		if !errors.Is(err, cache.ErrUnusable) {
			t.Errorf("%s: %v, want ErrUnusable", op, err)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: an error of several lines: %v", op, err)
		}
	}
}
