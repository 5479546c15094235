// Package push writes finished images to where users want them: registries, OCI layouts, Docker
// archives, and plain root filesystems.
package push

import (
	"context"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Artifact is a finished image.
type Artifact struct {
	Image v1.Image
	// Platform is the image's.
	Platform v1.Platform
	// Epoch, when not zero, is the time that SOURCE_DATE_EPOCH fixes: that of what an exporter makes itself, and of all files
	// where it writes files.
	Epoch time.Time
}

// Receipt says what an exporter wrote.
type Receipt struct {
	// Name is where the image is now: a reference, or a path.
	Name string
	// Digest is that of the manifest as it was written.
	Digest v1.Hash
}

// Exporter writes images to one kind of place. Implementations are safe for concurrent use.
type Exporter interface {
	// Export writes a whole or nothing that a reader would take for whole. It is idempotent.
	Export(ctx context.Context, a Artifact) ([]Receipt, error)
}

// LayerTaker is an Exporter that can use layers before their image is finished.
type LayerTaker interface {
	Exporter
	// Take uploads layer ahead of Export, which will then find it there. An error is final for the layer and is
	// reported again by Export if it stands in the way.
	Take(ctx context.Context, layer v1.Layer) error
	// TakeConfig uploads the config of an image ahead of Export, as Take does with layers.
	TakeConfig(ctx context.Context, img v1.Image) error
}
