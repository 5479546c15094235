package registry

import (
	"context"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// notePrefix begins the tags of notes.
const notePrefix = "note-"

// noteFile is the name of the only file in the layer of a note.
const noteFile = "note"

// archived is how much larger a file may be in its archive.
const archived = 4 << 10

func noteTag(name cache.Key) string { return notePrefix + name.String() }

// Note implements cache.Notes.
func (s *Store) Note(ctx context.Context, name cache.Key) ([]byte, error) {
	m, err := s.manifest(ctx, noteTag(name))
	if err != nil {
		return nil, readError(err)
	}
	f, err := parseNote(m)
	if err == nil && f.of != name.String() {
		err = fmt.Errorf("it is that of %s", f.of)
	}
	var data []byte
	if err == nil {
		ctx, cancel := context.WithTimeoutCause(ctx, s.o.Timeout, errSlow)
		defer cancel()
		err = s.readFile(ctx, noteTag(name), noteFile, f.layer, func(r io.Reader) (err error) {
			data, err = io.ReadAll(io.LimitReader(r, cache.MaxNote))
			return err
		})
	}
	if err != nil {
		return nil, cache.Miss(fmt.Errorf("note %q: %w", s.tag(noteTag(name)), err))
	}
	return data, nil
}

func parseNote(m v1.Descriptor) (fileManifest, error) {
	return parseFile(m, noteAnnotation, cache.MaxNote+archived)
}

// PutNote implements cache.Notes.
func (s *Store) PutNote(ctx context.Context, name cache.Key, data []byte) error {
	l, err := fileLayer(noteFile, data)
	if err != nil {
		return fmt.Errorf("put note %v: %w", name, err)
	}
	img, err := ordinary(l, time.Now(), "note "+name.String(), map[string]string{noteAnnotation: name.String()})
	if err != nil {
		return fmt.Errorf("put note %v: %w", name, err)
	}
	if err := s.push(ctx, noteTag(name), img, l); err != nil {
		return writeError(err)
	}
	return nil
}
