package snapshot_test

import (
	"archive/tar"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// words returns n bytes that compress about as well as program text does.
func words(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	dict := make([]string, 2000)
	for i := range dict {
		dict[i] = fmt.Sprintf("%x", rng.Uint64()>>(rng.IntN(8)*8))
	}
	out := make([]byte, 0, n+16)
	for len(out) < n {
		out = append(append(out, dict[int(rng.ExpFloat64()*200)%len(dict)]...), ' ')
	}
	return out[:n]
}

// benchWrite writes the layer of changes again and again, and reports what of CPU time it took.
func benchWrite(b *testing.B, changes func() snapshot.Changes) {
	b.Helper()
	b.ReportAllocs()
	d := b.TempDir()
	var raw, packed int64
	start := cpuTime(b)
	for b.Loop() {
		blob, err := snapshot.Write(b.Context(), changes(), snapshot.Options{Dir: d})
		if err != nil {
			b.Fatal(err)
		}
		for r := range blob.Index.All() {
			raw += r.Header.Size
		}
		size, _ := blob.Size()
		packed += size
		if err := os.Remove(blob.Path); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(raw / int64(b.N))
	b.ReportMetric(float64(raw)/1e6/(cpuTime(b)-start), "MB/cpu-s")
	b.ReportMetric(float64(packed)/float64(raw), "ratio")
}

// cpuTime is what this process has used, in seconds.
func cpuTime(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkWriteSmall writes 40,000 files of 1 to 4 kB from disk.
func BenchmarkWriteSmall(b *testing.B) {
	root := b.TempDir()
	data := words(1 << 20)
	for i := range 40000 {
		dir := filepath.Join(root, fmt.Sprintf("pkg-%03d", i/100))
		if i%100 == 0 {
			if err := os.Mkdir(dir, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		at := i * 7919 % (1<<20 - 4096)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d.js", i)), data[at:at+1000+i%3000], 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("Walk", func(b *testing.B) {
		for b.Loop() {
			tree, err := rootfs.Dir(root)
			if err != nil {
				b.Fatal(err)
			}
			for _, err := range snapshot.FromTree(tree, ".") {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("Write", func(b *testing.B) {
		benchWrite(b, func() snapshot.Changes {
			tree, err := rootfs.Dir(root)
			if err != nil {
				b.Fatal(err)
			}
			return snapshot.FromTree(tree, ".")
		})
	})
}

// BenchmarkWriteLarge writes a file of 600 MB.
func BenchmarkWriteLarge(b *testing.B) {
	const size = 600 << 20
	text := words(64 << 20)
	random := make([]byte, 64<<20)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(random)
	for name, data := range map[string][]byte{"Text": text, "Random": random, "Zeros": make([]byte, 1<<20)} {
		b.Run(name, func(b *testing.B) {
			benchWrite(b, func() snapshot.Changes {
				c := snapshot.Change{Kind: snapshot.Add, Header: &tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644, Size: size}}
				c.Open = func() (io.ReadCloser, error) { return &repeat{data: data}, nil }
				return stream(c)
			})
		})
	}
}

// repeat reads data again and again.
type repeat struct {
	data []byte
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.data[r.at:])
	r.at = (r.at + n) % len(r.data)
	return n, nil
}

func (r *repeat) Close() error { return nil }
