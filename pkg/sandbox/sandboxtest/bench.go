package sandboxtest

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// BenchmarkRun measures one step that does nothing, its changes included, on a root of layers; on Base
// when there are none.
func BenchmarkRun(b *testing.B, d sandbox.Driver, layers ...v1.Layer) {
	if len(layers) == 0 {
		layers = []v1.Layer{Base(b)}
	}
	root, err := d.Open(b.Context(), layers)
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	p := sandbox.Process{Args: []string{"true"}, Env: []string{"PATH=/bin:/usr/bin"}, Dir: "/"}
	for b.Loop() {
		if err := root.Run(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		for _, err := range root.Changes(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
		}
		root.Commit(nil)
	}
}
