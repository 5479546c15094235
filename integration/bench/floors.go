package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// floor is a part of a build's work in its barest form, done by one thread.
type floor struct {
	name string
	// unit is what do's result counts.
	unit string
	// do works once and returns how much was done.
	do func() (float64, error)
}

// tries is how often each is measured: the best is what the machine can do.
const tries = 5

// floors prints what one core of this machine does in a second at best. The time is that of the processor: what other
// programs take meanwhile does not count, as far as they do not slow down memory and caches. Wall time is that of the best try, too.
func (b *bench) floors(ctx context.Context) error {
	debian, err := cachedDebian(ctx)
	if err != nil {
		return err
	}
	layers, err := debian.Layers()
	if err != nil {
		return err
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, sample))
	if err != nil {
		return err
	}
	list, err := dataFloors(data)
	if err != nil {
		return err
	}
	fmt.Printf("%-44s %14s %14s\n", "one thread", "per CPU second", "per second")
	for _, f := range append(append(list, b.fileFloors(data)...), b.callFloors(ctx)...) {
		if err := f.measure(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// measure prints the best of some tries.
func (f floor) measure() error {
	perCPU, perWall := 0.0, 0.0
	for range tries {
		start := time.Now()
		before, err := usedTime()
		if err != nil {
			return err
		}
		n, err := f.do()
		if err != nil {
			return err
		}
		after, err := usedTime()
		if err != nil {
			return err
		}
		perCPU, perWall = max(perCPU, n/(after-before)), max(perWall, n/time.Since(start).Seconds())
	}
	fmt.Printf("%-44s %8.0f %-5s %8.0f %-5s\n", f.name, perCPU, f.unit, perWall, f.unit)
	return nil
}

// usedTime is what this process, and children that it has waited for, have used, in seconds.
func usedTime() (float64, error) {
	var own unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &own); err != nil {
		return 0, err
	}
	var children unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &children); err != nil {
		return 0, err
	}
	return float64(own.Nano()+children.Utime.Nano()+children.Stime.Nano()) / 1e9, nil
}

const (
	// sample is how much of a Debian's archive is compressed, in bytes.
	sample = 32 << 20
	// What pkg/snapshot/members has for defaults.
	gzipMember, gzipLevel = 512 << 10, 6
	zstdFrame, zstdLevel  = 1 << 20, 3
)

// dataFloors are what is done with the bytes of layers.
func dataFloors(data []byte) ([]floor, error) {
	gz, err := gzip.NewWriterLevel(nil, gzipLevel)
	if err != nil {
		return nil, err
	}
	zs, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(zstdLevel)),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdFrame))
	if err != nil {
		return nil, err
	}
	var gzipped, zstandard bytes.Buffer
	megabytes := float64(len(data)) / 1e6
	inParts := func(size int, do func(part []byte) error) func() (float64, error) {
		return func() (float64, error) {
			for rest := data; len(rest) > 0; {
				part := rest[:min(size, len(rest))]
				if err := do(part); err != nil {
					return 0, err
				}
				rest = rest[len(part):]
			}
			return megabytes, nil
		}
	}
	compress := inParts(gzipMember, func(part []byte) error {
		gz.Reset(&gzipped)
		_, err := gz.Write(part)
		return errors.Join(err, gz.Close())
	})
	frame := inParts(zstdFrame, func(part []byte) error {
		_, err := zstandard.Write(zs.EncodeAll(part, nil))
		return err
	})
	return []floor{
		{"gzip, level 6, members of 512 KiB", "MB", func() (float64, error) { gzipped.Reset(); return compress() }},
		{"zstd, level 3, frames of 1 MiB", "MB", func() (float64, error) { zstandard.Reset(); return frame() }},
		{"SHA-256", "MB", func() (float64, error) { sha256.Sum256(data); return megabytes, nil }},
		{"gzip, decompression", "MB", func() (float64, error) {
			r, err := gzip.NewReader(bytes.NewReader(gzipped.Bytes()))
			if err != nil {
				return 0, err
			}
			n, err := io.Copy(io.Discard, r)
			return float64(n) / 1e6, err
		}},
		{"zstd, decompression", "MB", func() (float64, error) {
			r, err := zstd.NewReader(bytes.NewReader(zstandard.Bytes()), zstd.WithDecoderConcurrency(1))
			if err != nil {
				return 0, err
			}
			defer r.Close()
			n, err := io.Copy(io.Discard, r)
			return float64(n) / 1e6, err
		}},
	}, nil
}

// fileFloors are what is done with files, below the folder of the benchmark.
func (b *bench) fileFloors(data []byte) []floor {
	const files, size = 20000, 1500
	try := 0
	last := func(i int) string { return filepath.Join(b.dir, fmt.Sprint("floor-", try), treeFile(i)) }
	large := filepath.Join(b.dir, "floor-large")
	return []floor{
		{"making files of 1.5 kB, 10 in a directory", "files", func() (float64, error) {
			try++
			for i := range files {
				if i < 2000 { // the first of each directory
					if err := os.MkdirAll(filepath.Dir(last(i)), 0o755); err != nil {
						return 0, err
					}
				}
				if err := os.WriteFile(last(i), data[i:i+size], 0o644); err != nil {
					return 0, err
				}
			}
			return files, nil
		}},
		{"reading such files", "files", func() (float64, error) {
			for i := range files {
				if _, err := os.ReadFile(last(i)); err != nil {
					return 0, err
				}
			}
			return files, nil
		}},
		{"writing a large file", "MB", func() (float64, error) {
			return float64(len(data)) / 1e6, os.WriteFile(large, data, 0o644)
		}},
		{"reading it from the page cache", "MB", func() (float64, error) {
			f, err := os.Open(large)
			if err != nil {
				return 0, err
			}
			defer f.Close()
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 256<<10))
			return float64(n) / 1e6, err
		}},
	}
}

// callFloors are processes and requests.
func (b *bench) callFloors(ctx context.Context) []floor {
	many := func(n int, do func() error) func() (float64, error) {
		return func() (float64, error) {
			for range n {
				if err := do(); err != nil {
					return 0, err
				}
			}
			return float64(n), nil
		}
	}
	return []floor{
		{"starting a small program", "times", many(200, func() error { return exec.CommandContext(ctx, "busybox", "true").Run() })},
		{"starting gobuild", "times", many(20, func() error { return exec.CommandContext(ctx, b.gobuild, "--version").Run() })},
		{"asking a registry on this machine", "times", many(500, func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.registry.Addr+"/v2/", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			return errors.Join(err, resp.Body.Close())
		})},
	}
}
