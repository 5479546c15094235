// Package source says where the files of a build come from, as trees.
package source

import (
	"errors"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Context is a build context: the files that COPY and ADD see, and the Dockerfile.
type Context struct {
	// Tree holds the files, but for those that the ignore file leaves out. Root owns all of them.
	Tree rootfs.Tree
	// Ignore lists the patterns of the ignore file that was used, for lint.
	Ignore []string
	// Dockerfile is the contents of the Dockerfile, which may be among the ignored files.
	Dockerfile []byte
	// DockerfilePath is where the Dockerfile was found, as messages should name it.
	DockerfilePath string
}

// Options say how a context is read.
type Options struct {
	// Dockerfile is the path of the Dockerfile: as it is, or else inside the context. Empty: "Dockerfile", or
	// "dockerfile", in the context.
	Dockerfile string
}

// Open reads the Dockerfile and the ignore file of the context at path, a local directory.
//
// The ignore file is <Dockerfile>.dockerignore beside the Dockerfile, or else .dockerignore in the context.
func Open(path string, o Options) (*Context, error) {
	return nil, errors.ErrUnsupported
}
