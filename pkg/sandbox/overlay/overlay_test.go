package overlay_test

import (
	"context"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/overlay"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { sandboxtest.Main(m) }

func newDriver(t testing.TB) sandbox.Driver {
	d := overlay.New(overlay.Options{Dir: t.TempDir()})
	t.Cleanup(func() {
		// With subordinate ids there are files that only the driver can remove.
		if err := d.Prune(context.Background(), time.Now()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDriver(t *testing.T) { sandboxtest.Run(t, sandboxtest.Options{}, newDriver) }

// TestOneOwner is run by TestOrdinaryUser as a user that has one id.
func TestOneOwner(t *testing.T) {
	if !sandboxtest.Ordinary() {
		return
	}
	sandboxtest.Run(t, sandboxtest.Options{OneOwner: true}, newDriver)
}

// TestNotSupervising is run by TestSupervisedUser as a user that has one id and whose steps cannot take themselves for others.
func TestNotSupervising(t *testing.T) {
	if !sandboxtest.Ordinary() {
		return
	}
	sandboxtest.Run(t, sandboxtest.Options{OneOwner: true, Unsupervised: true}, newDriver)
}

func TestSupervisedUser(t *testing.T) {
	sandboxtest.RunSupervised(t, "^TestNotSupervising$/^(changes|layers|process)$")
}

func TestOrdinaryUser(t *testing.T) { sandboxtest.RunAs(t, false, "^TestOneOwner$") }

func TestOrdinaryUserWithSubordinateIDs(t *testing.T) { sandboxtest.RunAs(t, true, "^TestDriver$") }

func BenchmarkRun(b *testing.B) { sandboxtest.BenchmarkRun(b, newDriver(b)) }

// TestStepProgram is run by users with one id and with many, too: the children of these execute their program twice.
func TestStepProgram(t *testing.T) {
	sandboxtest.RunWithProgram(t, sandboxtest.Options{}, func(t testing.TB, p *sandbox.Program) sandbox.Driver {
		return overlay.New(overlay.Options{Dir: t.TempDir(), Program: p})
	})
}

func TestStepProgramOfOrdinaryUser(t *testing.T) {
	sandboxtest.RunAs(t, false, "^TestStepProgram$")
	sandboxtest.RunAs(t, true, "^TestStepProgram$")
}
