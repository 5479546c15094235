package members_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
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
			w, err := members.NewWriter(&out, &raw, c.format)
			if err != nil {
				t.Fatal(err)
			}
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
		w, err := members.NewWriter(out, raw, members.Stored())
		if err != nil {
			t.Fatal(err)
		}
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
	w, err := members.NewWriter(io.Discard, nil, members.Stored())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(iotest.ErrReader(boom)); !errors.Is(err, boom) {
		t.Errorf("ReadFrom = %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
