package registry

import (
	"fmt"
	"sort"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Choose returns the manifests of an index that run on p, the best first. The rules are those of
// containerd's platforms.Only, which BuildKit uses: arm/v7 takes arm/v6 when there is nothing better, amd64 takes
// 386. Entries without a platform come last, since only their config can tell.
func Choose(index *v1.IndexManifest, p v1.Platform) []v1.Descriptor {
	match := platforms.Only(spec(p))
	var fit, silent []v1.Descriptor
	for _, d := range index.Manifests {
		switch {
		case !d.MediaType.IsImage() && !d.MediaType.IsIndex():
		case d.Platform == nil || d.Platform.OS == "" && d.Platform.Architecture == "":
			silent = append(silent, d)
		case match.Match(platforms.Normalize(spec(*d.Platform))):
			fit = append(fit, d)
		}
	}
	sort.SliceStable(fit, func(i, j int) bool {
		return match.Less(platforms.Normalize(spec(*fit[i].Platform)), platforms.Normalize(spec(*fit[j].Platform)))
	})
	return append(fit, silent...)
}

func spec(p v1.Platform) ocispec.Platform {
	return ocispec.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
	}
}

// PlatformError says that an index has no image for a platform.
type PlatformError struct {
	Want v1.Platform
	// Have lists what there is, in the order of the index.
	Have []string
}

func (e *PlatformError) Error() string {
	have := "nothing that says its platform"
	if len(e.Have) > 0 {
		have = strings.Join(e.Have, ", ")
	}
	return fmt.Sprintf("no image for platform %s; there are %s", platforms.Format(spec(e.Want)), have)
}

// NewPlatformError lists what there is in index.
func NewPlatformError(index *v1.IndexManifest, p v1.Platform) *PlatformError {
	e := &PlatformError{Want: p}
	seen := map[string]bool{}
	for _, d := range index.Manifests {
		// Attestations call their platform unknown/unknown.
		if d.Platform == nil || d.Platform.OS == "" || d.Platform.OS == "unknown" {
			continue
		}
		if s := platforms.Format(spec(*d.Platform)); !seen[s] {
			seen[s] = true
			e.Have = append(e.Have, s)
		}
	}
	return e
}
