package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// TestMain lets the test binary be the program: scripts run it as gobuild, and it runs itself as the child of sandboxes.
func TestMain(m *testing.M) {
	sandbox.Init()
	program := func() { os.Exit(run(os.Args[0], os.Args[1:])) }
	testscript.Main(m, map[string]func(){"gobuild": program, "executor": program, "warmer": program})
}

// TestScripts runs the command line as a user would, in an empty home. Each script in testdata is one subject.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
			return os.Mkdir(home, 0o755)
		},
	})
}
