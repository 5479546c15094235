package build

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// nearby is a layer whose bytes may lie in an OCI layout of this machine. Whoever reads them checks their digest.
type nearby struct {
	v1.Layer
	dirs []string
}

// Compressed reads the layer from where it is at hand, or else from where it comes from.
func (n *nearby) Compressed() (io.ReadCloser, error) {
	digest, err := n.Digest()
	if err != nil {
		return nil, err
	}
	size, err := n.Size()
	if err != nil {
		return nil, err
	}
	for _, dir := range n.dirs {
		f, err := os.Open(filepath.Join(dir, "blobs", digest.Algorithm, digest.Hex))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if fi, err := f.Stat(); err == nil && fi.Size() == size {
			return f, nil
		}
		f.Close() // a part of it
	}
	return n.Layer.Compressed()
}

// Descriptor and Exists are what go-containerregistry asks layers of registries for besides.
func (n *nearby) Descriptor() (*v1.Descriptor, error) { return partial.Descriptor(n.Layer) }
func (n *nearby) Exists() (bool, error)               { return partial.Exists(n.Layer) }
