package cachemount

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/overlay"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/sandboxtest"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// memory is a place that machines share. Whoever puts something keeps no part in it.
type memory struct {
	mu      sync.Mutex
	entries map[cache.Key]cache.Entry
	gets    int
	sent    int64 // bytes of layers that were not there
	fail    error
}

func newMemory() *memory { return &memory{entries: map[cache.Key]cache.Entry{}} }

func (m *memory) Get(_ context.Context, k cache.Key) (cache.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	if m.fail != nil {
		return cache.Entry{}, m.fail
	}
	e, ok := m.entries[k]
	if !ok {
		return e, cache.ErrMiss
	}
	return e, nil
}

func (m *memory) Put(_ context.Context, k cache.Key, e cache.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	rec, err := cache.NewRecord(k, e)
	if err != nil {
		return err
	}
	rc, err := e.Layer.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		return err
	}
	known := false
	for _, other := range m.entries {
		o, err := linkOf(other)
		known = known || err == nil && o.Layer.Digest == rec.Layer.Digest
	}
	if !known {
		m.sent += int64(len(data))
	}
	e.Layer = &stored{described{*rec.Layer}, data}
	m.entries[k] = e
	return nil
}

// stored is a layer in memory.
type stored struct {
	described
	data []byte
}

func (s *stored) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.data)), nil
}
func (s *stored) Uncompressed() (io.ReadCloser, error) {
	return snapshot.Decompress(io.NopCloser(bytes.NewReader(s.data)))
}

// machine has caches of its own.
type machine struct {
	t       *testing.T
	driver  *overlay.Driver
	dir     string
	indexes indexes
	warned  []string
	told    []string
	mu      sync.Mutex
}

type indexes struct{ *sync.Map }

func (x indexes) Index(_ context.Context, diffID v1.Hash) (*rootfs.Index, error) {
	if v, ok := x.Load(diffID); ok {
		return v.(*rootfs.Index), nil
	}
	return nil, fs.ErrNotExist
}

func (x indexes) PutIndex(_ context.Context, diffID v1.Hash, i *rootfs.Index) error {
	x.Store(diffID, i)
	return nil
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), indexes: indexes{&sync.Map{}}}
	m.driver = overlay.New(overlay.Options{Dir: t.TempDir(), Indexes: m.indexes})
	return m
}

func (m *machine) note(list *[]string) func(string) {
	return func(text string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		*list = append(*list, text)
	}
}

// keeper begins a build.
func (m *machine) keeper(o Options) *Keeper {
	m.t.Helper()
	o.Layer.Dir, o.Indexes, o.Warn, o.Info = m.t.TempDir(), m.indexes, m.note(&m.warned), m.note(&m.told)
	o.Lock = func(context.Context, string) (string, func() error, error) {
		return m.dir, func() error { return nil }, nil
	}
	return New(o)
}

// job runs a script with the cache "id" on /c, at which nothing of it is saved yet.
func (m *machine) job(o Options, script string) (*Keeper, string) {
	m.t.Helper()
	k := m.keeper(o)
	return k, m.step(k, identity().Platform, script)
}

// step runs a script for a platform, with the cache of k.
func (m *machine) step(k *Keeper, p v1.Platform, script string) string {
	m.t.Helper()
	k.Open(m.t.Context(), m.driver, identity().ID, p, m.dir)
	root, err := m.driver.Open(m.t.Context(), []v1.Layer{sandboxtest.Base(m.t)})
	if err != nil {
		m.t.Fatal(err)
	}
	defer root.Close()
	var out bytes.Buffer
	err = root.Run(m.t.Context(), sandbox.Process{
		Args: []string{"sh", "-ec", "cd /c; " + script}, Env: []string{"PATH=/bin"}, Dir: "/", Stdout: &out, Stderr: &out,
		Mounts: []sandbox.Mount{{Target: "/c", Source: sandbox.CacheSource{Dir: m.dir, Path: "/", Mode: 0o755}}},
	})
	if err != nil {
		m.t.Fatalf("%v: %s", err, out.String())
	}
	return out.String()
}

// build is a job that is saved.
func (m *machine) build(o Options, script string) string {
	m.t.Helper()
	k, out := m.job(o, script)
	k.Save(m.t.Context())()
	return out
}

func (m *machine) quiet() {
	m.t.Helper()
	if len(m.warned) > 0 {
		m.t.Errorf("warnings %q", m.warned)
	}
}
