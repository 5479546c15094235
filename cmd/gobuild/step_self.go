//go:build !embedstep

package main

import "github.com/gobuild-dev/gobuild/pkg/sandbox"

// stepProgram is what steps are started by: this program itself, as go install makes it.
func stepProgram() *sandbox.Program { return nil }
