package overlay_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/overlay"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/sandboxtest"
)

func open(t *testing.T, d *overlay.Driver, layers ...v1.Layer) sandbox.Root {
	t.Helper()
	root, err := d.Open(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func sh(script string) sandbox.Process {
	return sandbox.Process{Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}, Dir: "/", Stdout: os.Stderr, Stderr: os.Stderr}
}

// known is an rootfs.Indexes that counts.
type known map[v1.Hash]*rootfs.Index

func (k known) Index(_ context.Context, id v1.Hash) (*rootfs.Index, error) {
	if x, ok := k[id]; ok {
		return x, nil
	}
	return nil, os.ErrNotExist
}

func (k known) PutIndex(_ context.Context, id v1.Hash, x *rootfs.Index) error {
	k[id] = x
	return nil
}

// A layer is extracted once, whoever wants it later, and its index is kept.
func TestExtractedOnce(t *testing.T) {
	dir, indexes, base := t.TempDir(), known{}, sandboxtest.Base(t)
	open(t, overlay.New(overlay.Options{Dir: dir, Indexes: indexes}), base).Close()
	id, err := base.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	if x := indexes[id]; x == nil || x.Len() == 0 {
		t.Error("no index was put")
	}
	// Another driver stands for another process.
	r := open(t, overlay.New(overlay.Options{Dir: dir}), unreadable(t, base))
	if err := r.Run(t.Context(), sh("true")); err != nil {
		t.Error(err)
	}
}

// unreadable is a layer whose contents must not be asked for.
func unreadable(t *testing.T, l v1.Layer) v1.Layer { return closedLayer{l, t} }

type closedLayer struct {
	v1.Layer
	t *testing.T
}

func (l closedLayer) Uncompressed() (io.ReadCloser, error) {
	l.t.Error("the layer was read again")
	return l.Layer.Uncompressed()
}

// What a step wrote is used as its layer, in this process and after Close.
func TestCommittedLayerIsNotExtracted(t *testing.T) {
	dir, base := t.TempDir(), sandboxtest.Base(t)
	d := overlay.New(overlay.Options{Dir: dir})
	r := open(t, d, base)
	if err := r.Run(t.Context(), sh("mkdir /made; echo 1 > /made/by-step; rm -r /d; mkdir /d")); err != nil {
		t.Fatal(err)
	}
	for _, err := range r.Changes(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	l := sandboxtest.Layer(t, sandboxtest.File("stands-for-it", 0o644, ""))
	r.Commit(l)
	check := sh("test -e /made/by-step && ! test -e /d/a && ! test -e /stands-for-it")
	if err := open(t, d, base, unreadable(t, l)).Run(t.Context(), check); err != nil {
		t.Error(err)
	}
	r.Close()
	if err := open(t, overlay.New(overlay.Options{Dir: dir}), unreadable(t, base), unreadable(t, l)).Run(t.Context(), check); err != nil {
		t.Errorf("later: %v", err)
	}
}

// What a killed process has left behind is neither trusted nor kept.
func TestRubbishIsCollected(t *testing.T) {
	dir, base := t.TempDir(), sandboxtest.Base(t)
	r := open(t, overlay.New(overlay.Options{Dir: dir}), base)
	state, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(state) != 1 {
		t.Fatalf("state directories %v, %v", state, err)
	}
	rubbish := []string{filepath.Join(state[0], "data", "halfway"), filepath.Join(state[0], "roots", "dead")}
	for _, name := range rubbish {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	open(t, overlay.New(overlay.Options{Dir: dir}), base).Close()
	if _, err := os.Stat(rubbish[0]); err != nil {
		t.Error("rubbish was collected while a root is open, which it could belong to")
	}
	r.Close()
	open(t, overlay.New(overlay.Options{Dir: dir}), unreadable(t, base))
	for _, name := range rubbish {
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestPrune(t *testing.T) {
	dir, old, used := t.TempDir(), sandboxtest.Layer(t, sandboxtest.File("old", 0o644, "")), sandboxtest.Base(t)
	d := overlay.New(overlay.Options{Dir: dir})
	open(t, d, old).Close()
	time.Sleep(20 * time.Millisecond)
	then := time.Now()
	time.Sleep(20 * time.Millisecond)
	r := open(t, d, used)
	if err := d.Prune(t.Context(), then); err != nil {
		t.Fatal(err)
	}
	if n := count(t, dir); n != 2 {
		t.Errorf("%d layers while a root is open, want 2", n)
	}
	r.Close()
	if err := d.Prune(t.Context(), then); err != nil {
		t.Fatal(err)
	}
	if n := count(t, dir); n != 1 {
		t.Errorf("%d layers, want the one that was used", n)
	}
	open(t, d, unreadable(t, used))
}

func count(t *testing.T, dir string) int {
	t.Helper()
	data, err := filepath.Glob(filepath.Join(dir, "*", "data", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(data)
}

// stateOfVictim is the environment variable by which TestVictim is told where to work.
const stateOfVictim = "GOBUILD_TEST_VICTIM"

// TestVictim is the process that TestBuilderIsKilled kills.
func TestVictim(t *testing.T) {
	dir := os.Getenv(stateOfVictim)
	if dir == "" {
		return // only TestBuilderIsKilled means it
	}
	r := open(t, overlay.New(overlay.Options{Dir: dir}), sandboxtest.Base(t))
	p := sh("echo running; setsid sleep 987654321 & sleep 987654321")
	p.Stdout = os.Stdout
	t.Error(r.Run(t.Context(), p))
}

func TestBuilderIsKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestVictim$")
	cmd.Env = append(os.Environ(), stateOfVictim+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "running") {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for sandboxtest.Running(t, "sleep\x00987654321") {
		if time.Now().After(deadline) {
			t.Fatal("the step survives the builder")
		}
		time.Sleep(10 * time.Millisecond)
	}
	open(t, overlay.New(overlay.Options{Dir: dir}), unreadable(t, sandboxtest.Base(t)))
	if n := count(t, dir); n != 1 {
		t.Errorf("%d directories, want that of the layer", n)
	}
}
