package members_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/gobuild-dev/gobuild/pkg/snapshot/members"
)

func data(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rng.ExpFloat64() * 20)
	}
	return out
}

func format(t *testing.T, f members.Format, err error) members.Format {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWriter(t *testing.T) {
	g, gErr := members.Gzip(0)
	z, zErr := members.Zstd(0)
	for name, c := range map[string]struct {
		format members.Format
		reader func(io.Reader) (io.Reader, error)
	}{
		"gzip":   {format(t, g, gErr), func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) }},
		"zstd":   {format(t, z, zErr), func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }},
		"stored": {members.Stored(), func(r io.Reader) (io.Reader, error) { return r, nil }},
	} {
		size := c.format.Size
		for _, n := range []int{0, 1, size - 1, size, size + 1, 5*size + 7} {
			want := data(n)
			var out, raw bytes.Buffer
			w := members.NewWriter(&out, &raw, c.format, nil)
			// Half by Write, half by ReadFrom, in odd pieces.
			half := n / 2
			if _, err := io.Copy(struct{ io.Writer }{w}, iotest.HalfReader(bytes.NewReader(want[:half]))); err != nil {
				t.Fatal(err)
			}
			if m, err := w.ReadFrom(iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(want[half:])))); err != nil || m != int64(n-half) {
				t.Fatalf("ReadFrom = %d, %v", m, err)
			}
			for range 2 {
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("Write after Close worked")
			}
			if !bytes.Equal(raw.Bytes(), want) {
				t.Errorf("%s, %d bytes: other raw bytes", name, n)
			}
			r, err := c.reader(&out)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, n, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes: read %d, %v", name, n, len(got), err)
			}
		}
	}
}

// failing fails after n bytes.
type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// A full disk ends the writing soon, and leaves no goroutine.
func TestWriterFails(t *testing.T) {
	before := runtime.NumGoroutine()
	boom := errors.New("boom")
	for _, bad := range []string{"out", "raw"} {
		out, raw := &failing{1 << 40, boom}, &failing{1 << 40, boom}
		if bad == "out" {
			out.n = 1 << 20
		} else {
			raw.n = 1 << 20
		}
		w := members.NewWriter(out, raw, members.Stored(), nil)
		n, err := w.ReadFrom(zeros{})
		if !errors.Is(err, boom) {
			t.Errorf("%s: ReadFrom = %d, %v", bad, n, err)
		}
		if err := w.Close(); !errors.Is(err, boom) {
			t.Errorf("%s: Close = %v", bad, err)
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, there were %d", n, before)
	}
	// An error of the reader is its own.
	w := members.NewWriter(io.Discard, nil, members.Stored(), nil)
	if _, err := w.ReadFrom(iotest.ErrReader(boom)); !errors.Is(err, boom) {
		t.Errorf("ReadFrom = %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestReuse holds that what a writer has left does not show in what the next one makes: neither after a failure, nor when formats
// change, nor when many write at once.
func TestReuse(t *testing.T) {
	g6, err6 := members.Gzip(6)
	g1, err1 := members.Gzip(1)
	z, zErr := members.Zstd(0)
	formats := []members.Format{format(t, g6, err6), format(t, g1, err1), format(t, z, zErr), members.Stored()}
	compress := func(n int, f members.Format, reuse *members.Reuse) []byte {
		var out bytes.Buffer
		w := members.NewWriter(&out, nil, f, reuse)
		if _, err := w.Write(data(n)); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		return out.Bytes()
	}
	reuse := &members.Reuse{}
	for _, f := range formats {
		w := members.NewWriter(&failing{1000, errors.New("boom")}, nil, f, reuse)
		_, _ = w.Write(data(2 * f.Size))
		if w.Close() == nil {
			t.Error("writing to a full disk worked")
		}
	}
	var wg sync.WaitGroup
	for i := range 24 {
		f, n := formats[i%len(formats)], []int{0, 100, 1 << 20, 2<<20 + 7}[i/len(formats)%4]
		wg.Go(func() {
			if !bytes.Equal(compress(n, f, reuse), compress(n, f, nil)) {
				t.Errorf("format %d, %d bytes: not what a new writer makes", i%len(formats), n)
			}
		})
	}
	wg.Wait()
}
