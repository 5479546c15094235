package fileop

import (
	"context"
	"crypto/sha256"
	"path"
)

// Inputs calls visit with each selected file and a hash of everything of it that Digest covers. Names are paths as
// the copy's sources have them, relative to the root of their tree.
func (s *Selection) Inputs(ctx context.Context, visit func(name string, sum [sha256.Size]byte)) error {
	if err := s.hashContents(ctx); err != nil {
		return err
	}
	for _, it := range s.items {
		one := func(f *file) {
			h := framed{h: sha256.New()}
			s.hashFile(&h, f)
			visit(path.Clean(f.name), [sha256.Size]byte(h.h.Sum(nil)))
		}
		if !it.file.isDir() {
			one(&it.file)
			continue
		}
		for _, f := range it.below.all() {
			one(f)
		}
	}
	return nil
}
