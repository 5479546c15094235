package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// measurement is a workload while it is measured.
type measurement struct {
	workload
	dir, registry string
	builders      []builder
}

// repository is one of a builder's own.
func (m *measurement) repository(p builder, name string) string {
	return strings.Join([]string{m.registry, "bench", m.name, strings.ToLower(p.name()), name}, "/")
}

// fill builds the workload once with each builder, into its cache.
func (m *measurement) fill(ctx context.Context) error {
	dir := filepath.Join(m.dir, "fill")
	if err := m.lay(filepath.Join(dir, "context"), m.registry, "0"); err != nil {
		return err
	}
	for _, p := range m.builders {
		j := job{
			context: filepath.Join(dir, "context"), state: filepath.Join(dir, p.name()),
			destination: m.repository(p, "filled") + ":1", cacheTo: m.repository(p, "cache"),
		}
		if _, err := p.build(ctx, j); err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
	}
	return nil
}

// round builds once with each builder. What comes from a cache goes to a repository that has nothing yet.
func (m *measurement) round(ctx context.Context, round int, results []result) error {
	dir := filepath.Join(m.dir, fmt.Sprint(round))
	contextDir, text := filepath.Join(dir, "context"), fmt.Sprint(round)
	if m.cached {
		text = "0"
	}
	if err := m.lay(contextDir, m.registry, text); err != nil {
		return err
	}
	if m.change != nil {
		if err := m.change(contextDir, fmt.Sprint("changed ", round)); err != nil {
			return err
		}
	}
	for _, i := range order(len(m.builders), round) {
		p := m.builders[i]
		j := job{
			context: contextDir, state: filepath.Join(dir, p.name()),
			destination: fmt.Sprintf("%s/bench/%s:%s-%d", m.registry, m.name, strings.ToLower(p.name()), round),
		}
		if m.cached {
			j.destination, j.cacheFrom = m.repository(p, fmt.Sprint(round))+":1", m.repository(p, "cache")
		}
		if m.change != nil {
			j.cacheTo = j.cacheFrom
		}
		u, err := p.build(ctx, j)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		if u.pushed, err = layerBytes(ctx, j.destination); err != nil {
			return err
		}
		results[i].rounds = append(results[i].rounds, u)
	}
	return nil
}
