//go:build embedstep

package main

import (
	_ "embed"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// stepELF is cmd/gobuild-step. It is never a file here: only scripts/build, which has just made it, says where it is.
//
//go:embed step
var stepELF string

// stepProgram is what steps are started by.
func stepProgram() *sandbox.Program { return sandbox.NewProgram(stepELF) }
