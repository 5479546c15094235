package chroot_test

import (
	"testing"

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

func TestStepProgram(t *testing.T) {
	sandboxtest.RunWithProgram(t, sandboxtest.Options{Bare: true}, func(t testing.TB, p *sandbox.Program) sandbox.Driver {
		return chroot.New(chroot.Options{Dir: t.TempDir(), Program: p})
	})
}
