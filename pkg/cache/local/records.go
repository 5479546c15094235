package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// recordsDir is the folder of records, by the digest of their ID.
const recordsDir = "records"

func (s *Store) recordPath(id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(s.dir, recordsDir, hex.EncodeToString(sum[:]))
}

// Record returns what was put last under id, or an error that wraps cache.ErrMiss.
func (s *Store) Record(_ context.Context, id string) ([]byte, error) {
	data, err := os.ReadFile(s.recordPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cache.ErrMiss
	}
	return data, err
}

// PutRecord keeps data under id, in place of what is there.
func (s *Store) PutRecord(_ context.Context, id string, data []byte) error {
	return s.write(s.recordPath(id), func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}
