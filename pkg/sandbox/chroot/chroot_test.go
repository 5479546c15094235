package chroot_test

import (
	"context"
	"io/fs"
	"slices"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/chroot"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { sandboxtest.Main(m) }

func newDriver(t testing.TB) sandbox.Driver { return chroot.New(chroot.Options{Dir: t.TempDir()}) }

// TestDriver is run in containers, too.
func TestDriver(t *testing.T) {
	without := sandboxtest.WithoutMounts()
	for _, name := range []string{
		"capabilities", "privileges_may_be_gained", "session_of_its_own", "no_inherited_files", "masked", "devices", "shm",
	} {
		without["process/view/"+name] = "there is no /proc"
	}
	without["process/trap_28_daemons"] = "there is no /proc"
	for _, name := range []string{
		"process/user/no_capabilities", "owners/standard_output_by_its_name", "owners/open_files_by_their_names",
	} {
		without[name] = "there is no /proc"
	}
	sandboxtest.Run(t, sandboxtest.Options{Bare: true, Without: without}, newDriver)
}

// TestCoveredFilesAreNoNews holds that files of an image that a step does not see, because it sees the builder's in their place, are
// not looked up in the image's layers after each step: that takes as long as the image is large.
func TestCoveredFilesAreNoNews(t *testing.T) {
	x := &asked{}
	d := chroot.New(chroot.Options{Dir: t.TempDir(), Indexes: x})
	base := sandboxtest.Layer(t, sandboxtest.Dir("etc", 0o755), sandboxtest.File("etc/resolv.conf", 0o644, "the image's"), sandboxtest.File("etc/hosts", 0o644, "the image's"))
	root, err := d.Open(t.Context(), []v1.Layer{sandboxtest.Base(t), base})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	run := func(command string) (changed []string) {
		p := sandbox.Process{Args: []string{"sh", "-c", command}, Env: []string{"PATH=/bin:/usr/bin"}, Dir: "/"}
		if err := root.Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		for c, err := range root.Changes(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			changed = append(changed, c.Header.Name)
		}
		root.Commit(nil)
		return changed
	}
	run("true") // which leaves /proc, /dev and /sys
	if changed := run("true"); len(changed) > 0 || x.times.Load() > 0 {
		t.Errorf("%q have changed, and %d indexes were read", changed, x.times.Load())
	}
	if changed := run("touch -d @7 /bin/new"); !slices.Contains(changed, "bin/new") || slices.Contains(changed, "etc/resolv.conf") {
		t.Errorf("%q have changed", changed)
	}
}

// asked counts how often it is asked for an index.
type asked struct{ times atomic.Int32 }

func (a *asked) Index(context.Context, v1.Hash) (*rootfs.Index, error) {
	a.times.Add(1)
	return nil, fs.ErrNotExist
}
func (a *asked) PutIndex(context.Context, v1.Hash, *rootfs.Index) error { return nil }

func TestStepProgram(t *testing.T) {
	sandboxtest.RunWithProgram(t, sandboxtest.Options{Bare: true}, func(t testing.TB, p *sandbox.Program) sandbox.Driver {
		return chroot.New(chroot.Options{Dir: t.TempDir(), Program: p})
	})
}
