package sandbox

import "github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"

// Program is a program that drivers execute to work in other namespaces: one whose main calls Init, and which was built from the
// same sources. A small one starts sooner than a large program that executes itself, takes less memory, and shows steps
// nothing of the large one. Drivers that are given none, or cannot execute it where they are, execute the program
// that they are in. It is safe for concurrent use.
type Program = child.Program

// NewProgram returns the program whose ELF file is text, which is executed from memory, where nobody can change it.
func NewProgram(text string) *Program { return child.NewProgram(text) }
