package inplace_test

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/inplace"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/sandboxtest"
)

// container says that the tests are in a container that may be used up, as the integration tests make one.
var container = flag.Bool("container", false, "run the tests that use the root filesystem up")

func TestMain(m *testing.M) { sandboxtest.Main(m) }

func newDriver(t testing.TB) sandbox.Driver {
	return inplace.New(inplace.Options{Dir: filepath.Join(t.TempDir(), "d"), Disposable: true, Keep: []string{os.TempDir()}})
}

func TestDriver(t *testing.T) {
	if !*container {
		return
	}
	without := sandboxtest.WithoutMounts()
	maps.Copy(without, map[string]string{
		"layers/trap_80_malicious": "a step can reach what stays in its place, here the files of the tests",
		"process/view/hosts":       "the container's own /etc/hosts is a mount",
		"mounts/socket":            "/dev is the container's, on a filesystem of its own",
	})
	sandboxtest.Run(t, sandboxtest.Options{Bare: true, Without: without}, newDriver)
}

// TestRefusesHost holds that no marker and no word makes a host a container.
func TestRefusesHost(t *testing.T) {
	if *container {
		return
	}
	d := newDriver(t)
	if err := d.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "this may be a host") {
		t.Errorf("probe: %v", err)
	}
	if _, err := d.Open(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "this may be a host") {
		t.Errorf("open: %v", err)
	}
}
