package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

func noteName(name cache.Key) string { return notesDir + name.String() }

// Note implements cache.Notes. An object begins with the SHA-256 of the rest.
func (s *Store) Note(ctx context.Context, name cache.Key) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	data, err := s.readNote(ctx, name)
	var damaged *damagedError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &damaged):
		return nil, cache.Miss(err)
	case err != nil:
		return nil, fmt.Errorf("read note in cache %s: %w", s.bucket, because(ctx, err))
	}
	return data, nil
}

func (s *Store) readNote(ctx context.Context, name cache.Key) ([]byte, error) {
	rc, err := s.get(ctx, noteName(name), 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, sha256.Size+cache.MaxNote+1))
	if err != nil {
		return nil, err
	}
	if len(data) < sha256.Size || len(data) > sha256.Size+cache.MaxNote {
		return nil, &damagedError{fmt.Errorf("note %v has %d bytes", name, len(data))}
	}
	sum, data := data[:sha256.Size], data[sha256.Size:]
	if want := sha256.Sum256(data); !bytes.Equal(sum, want[:]) {
		return nil, &damagedError{fmt.Errorf("note %v is damaged", name)}
	}
	return data, nil
}

// PutNote implements cache.Notes.
func (s *Store) PutNote(ctx context.Context, name cache.Key, data []byte) error {
	sum := sha256.Sum256(data)
	data = slices.Concat(sum[:], data)
	if err := s.send(ctx, noteName(name), int64(len(data)), bytesOf(data)); err != nil {
		return fmt.Errorf("write note to cache %s: %w", s.bucket, err)
	}
	return nil
}
