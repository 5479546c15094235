package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// growth builds all series with gobuild and prints them.
func (b *bench) growth(ctx context.Context) error {
	if err := b.smallBases(ctx); err != nil {
		return err
	}
	for i, s := range allSeries() {
		if !strings.Contains(s.name, b.only) {
			continue
		}
		sizes := s.sizes
		if b.large {
			sizes = append(sizes, s.large...)
		}
		var rows []growthRow
		for _, n := range sizes {
			r, err := b.grow(ctx, s, fmt.Sprintf("growth-%d-%d", i, n), n)
			if err != nil {
				return fmt.Errorf("%s, %d: %w", s.name, n, err)
			}
			rows = append(rows, r)
		}
		printSeries(s, rows)
	}
	return nil
}

// smallBases pushes the bases that do not grow.
func (b *bench) smallBases(ctx context.Context) error {
	busybox, err := parts.Busybox(ctx, b.dir)
	if err != nil {
		return err
	}
	debian, err := cachedDebian(ctx)
	if err != nil {
		return err
	}
	if err := parts.Push(ctx, b.registry.Addr+"/base/busybox:1", busybox); err != nil {
		return err
	}
	return parts.Push(ctx, b.registry.Addr+"/base/debian:1", debian)
}

// grow builds a series in one size, as often as there are rounds. name is a folder's and a repository's.
func (b *bench) grow(ctx context.Context, s series, name string, n int) (growthRow, error) {
	base := b.registry.Addr + "/" + name + "/base:1"
	if s.base != nil {
		if err := s.base(ctx, b, base, n); err != nil {
			return growthRow{}, fmt.Errorf("make base: %w", err)
		}
	}
	w := workload{dockerfile: strings.ReplaceAll(s.dockerfile(n), "{{base}}", base)}
	if s.files != nil {
		w.files = func(dir, _ string) error { return s.files(dir, n) }
	}
	g := &gobuild{program: b.gobuild, registry: b.registry.Addr}
	r := result{builder: g.name()}
	for round := range b.rounds {
		dir := filepath.Join(b.dir, name, fmt.Sprint(round))
		j := job{context: filepath.Join(dir, "context"), state: filepath.Join(dir, "state"),
			destination: fmt.Sprintf("%s/%s/image-%d:1", b.registry.Addr, name, round)}
		if err := b.prepare(ctx, s, w, g, &j, round); err != nil {
			return growthRow{}, fmt.Errorf("prepare: %w", err)
		}
		u, err := g.build(ctx, j)
		if err != nil {
			return growthRow{}, err
		}
		r.rounds = append(r.rounds, u)
	}
	return growthRow{n: n, wall: r.wall(), cpu: r.cpu(), peak: r.peak()}, nil
}

// prepare writes the context and makes what the measured build finds.
func (b *bench) prepare(ctx context.Context, s series, w workload, g *gobuild, j *job, round int) error {
	if err := w.lay(j.context, b.registry.Addr, fmt.Sprint(round)); err != nil {
		return err
	}
	before := *j
	before.destination += "-before"
	switch {
	case s.again:
		if _, err := g.build(ctx, before); err != nil {
			return err
		}
		return w.lay(j.context, b.registry.Addr, fmt.Sprint("another ", round))
	case s.cached:
		before.state += "-before"
		before.cacheTo = strings.TrimSuffix(j.destination, ":1") + "-cache"
		j.cacheFrom = before.cacheTo
		_, err := g.build(ctx, before)
		return err
	}
	return nil
}
