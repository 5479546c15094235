package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// workload is something to build.
type workload struct {
	name, about string
	// prepare fills the context src.
	prepare func(ctx context.Context, b *bench, src string) error
}

func workloads() []workload {
	return []workload{
		{"runs", "30 small RUN steps on Debian", runs},
		{"copy", "COPY only, on a base of 240 MB", copyOnly},
		{"big", "a RUN that writes 600 MB, half of it random", big},
		{"files", "COPY of 40,000 files, then RUN", files},
	}
}

// debian pushes the Debian base and returns its reference.
func (b *bench) debian(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	img, err := parts.Debian(ctx, filepath.Join(cache, "gobuild-tests"))
	if err != nil {
		return "", err
	}
	ref := b.registry.Addr + "/base/debian:1"
	return ref, parts.Push(ctx, ref, img)
}

func dockerfile(src string, lines ...string) error {
	return os.WriteFile(filepath.Join(src, "Dockerfile"), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func runs(ctx context.Context, b *bench, src string) error {
	base, err := b.debian(ctx)
	if err != nil {
		return err
	}
	lines := []string{"FROM " + base}
	for i := range 30 {
		lines = append(lines, fmt.Sprintf("RUN echo %d > /step-%d", i, i))
	}
	return dockerfile(src, lines...)
}

// copyOnly builds on Debian with another 70 MB of programs on top.
func copyOnly(ctx context.Context, b *bench, src string) error {
	debian, err := b.debian(ctx)
	if err != nil {
		return err
	}
	base := filepath.Join(src, "base")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	if err := fill(base, 700, 100_000); err != nil {
		return err
	}
	if err := dockerfile(base, "FROM "+debian, "COPY . /opt"); err != nil {
		return err
	}
	ref := b.registry.Addr + "/base/large:1"
	if err := b.buildkit.Build(ctx, parts.Job{Context: base, Dockerfile: "Dockerfile", Destination: ref}); err != nil {
		return err
	}
	if err := os.RemoveAll(base); err != nil {
		return err
	}
	if err := fill(src, 10, 10_000); err != nil {
		return err
	}
	return dockerfile(src, "FROM "+ref, "COPY d0 /app/", "WORKDIR /app", "COPY d0/f1 /usr/local/bin/tool", `CMD ["tool"]`)
}

func big(ctx context.Context, b *bench, src string) error {
	base, err := b.debian(ctx)
	if err != nil {
		return err
	}
	return dockerfile(src, "FROM "+base,
		"RUN for i in 1 2 3 4 5 6; do head -c 50000000 /dev/urandom > /random-$i; seq 1 6400000 | head -c 50000000 > /text-$i; done")
}

func files(ctx context.Context, b *bench, src string) error {
	base, err := b.debian(ctx)
	if err != nil {
		return err
	}
	if err := fill(filepath.Join(src, "src"), 40_000, 2_000); err != nil {
		return err
	}
	return dockerfile(src, "FROM "+base, "COPY src /src", "RUN find /src -type f | wc -l > /count")
}

// fill writes n files of about size bytes, of words that compress like source code, 100 in a folder. They are the same each time.
func fill(dir string, n, size int) error {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same files each time
	words := strings.Fields("func return error nil if else for range string int bytes context package import type struct map chan")
	for i := range n {
		var text strings.Builder
		length := size/2 + random.IntN(size)
		for text.Len() < length {
			fmt.Fprintf(&text, "%s_%d ", words[random.IntN(len(words))], random.IntN(1000))
		}
		path := filepath.Join(dir, fmt.Sprintf("d%d", i/100), fmt.Sprintf("f%d", i%100))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
