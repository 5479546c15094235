package push

import (
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/registry"
)

// WriteDigestFile writes the digest alone, without a line feed, as Kaniko's --digest-file does. The file
// appears when it is whole, as that of the other functions here.
func WriteDigestFile(path string, digest v1.Hash) error {
	return writeText(path, digest.String())
}

// WriteImageNameWithDigestFile writes a line "repository@digest" for each of refs, as Kaniko's
// --image-name-with-digest-file does.
func WriteImageNameWithDigestFile(path string, refs []string, digest v1.Hash) error {
	return writeNames(path, refs, digest, false)
}

// WriteImageNameTagWithDigestFile writes a line "repository:tag@digest" for each of refs, as Kaniko's
// --image-name-tag-with-digest-file does.
func WriteImageNameTagWithDigestFile(path string, refs []string, digest v1.Hash) error {
	return writeNames(path, refs, digest, true)
}

func writeNames(path string, refs []string, digest v1.Hash, tags bool) error {
	var b strings.Builder
	for _, ref := range refs {
		r, err := registry.ParseReference(ref)
		if err != nil {
			return err
		}
		b.WriteString(r.Context().Name())
		if id := r.Identifier(); tags && !strings.Contains(id, ":") {
			b.WriteString(":" + id)
		}
		b.WriteString("@" + digest.String() + "\n")
	}
	return writeText(path, b.String())
}

func writeText(path, text string) error {
	err := writeFile(path, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		return fmt.Errorf("write digest to %q: %w", path, err)
	}
	return nil
}
