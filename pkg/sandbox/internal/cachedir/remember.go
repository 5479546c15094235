package cachedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
)

// DataName is the name that a cache's files have in its directory.
const DataName = dataName

// maxNote bounds a note, which is kept in memory.
const maxNote = 1 << 20

// Remembered is the file with the record of a cache's files in a state that somebody else knows, and a note about
// that: the record, the note, and the length of the note in 8 bytes.
func Remembered(dir string) string { return filepath.Join(dir, "remembered") }

// Remember makes the record in a file, which it takes over, the one of the cache in dir.
func Remember(dir, record string, note []byte) error {
	if len(note) > maxNote {
		return errors.New("remember state of cache: the note is too long")
	}
	f, err := os.OpenFile(record, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("remember state of cache: %w", err)
	}
	_, err = f.Write(binary.BigEndian.AppendUint64(note[:len(note):len(note)], uint64(len(note))))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(record, Remembered(dir))
	}
	if err != nil {
		return fmt.Errorf("remember state of cache: %w", err)
	}
	return nil
}

// Note returns the note of the last Remember, nil if there is none.
func Note(dir string) ([]byte, error) {
	f, err := os.Open(Remembered(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read note of cache: %w", err)
	}
	defer f.Close()
	note, err := readNote(f)
	if err != nil {
		return nil, fmt.Errorf("read note of cache: %w", err)
	}
	return note, nil
}

func readNote(f *os.File) ([]byte, error) {
	var length [8]byte
	end, err := f.Seek(-int64(len(length)), io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(f, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(length[:])
	if n > maxNote || int64(n) > end {
		return nil, errors.New("it is damaged")
	}
	note := make([]byte, n)
	_, err = f.ReadAt(note, end-int64(n))
	return note, err
}

// Hold makes dir and keeps others from preparing a cache in it until what it returns is closed.
func Hold(dir string) (io.Closer, error) {
	// Users of the machine must not reach programs with setuid bits that steps put there.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("prepare cache: %w", err)
	}
	held, err := lock.Hold(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("prepare cache: %w", err)
	}
	return held, nil
}
