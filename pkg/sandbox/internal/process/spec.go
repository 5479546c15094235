// Package process runs a step: it is the first process of the step's PID namespace, makes the step's view of the
// system by mounts of its own, starts the program, reaps what it leaves behind and kills the rest.
package process

// Op is the name of the child's operation.
const Op = "run"

// Spec is what the child is told to do.
type Spec struct {
	// Mount is an empty directory on which the root is mounted, Box another one for files that are mounted in it.
	Mount, Box string
	// Root is a directory that becomes the root as it is; otherwise it is an overlay of these.
	Root    string
	Overlay Overlay

	Args, Env []string
	Dir, User string
	Hostname  string
	// Network says that the process has a network namespace of its own.
	Network bool
	// Files are mounted read-only.
	Files []File
	// Probe asks only for the mounts.
	Probe bool
}

// Overlay is the root of a step in layers.
type Overlay struct {
	// Dir is where the names of the other directories start. Short names let many of them fit in the page
	// that a mount's options may have.
	Dir string
	// Lower are the directories below, the topmost first.
	Lower       []string
	Upper, Work string
	UserXattr   bool
}

// File is a small file that the process sees.
type File struct {
	Path string
	Mode int64
	Data []byte
}

// Result is the child's answer.
type Result struct {
	// Code is the program's exit status, or 128 + n when signal n ended it.
	Code int
	// Reason says why the program was not started; Code is 126 or 127 then.
	Reason string
}
