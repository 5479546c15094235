package swap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxFile is how many bytes the journal holds of a file.
const maxFile = 1 << 20

// fileRecord is a mounted file with what was in it, such as /etc/hosts.
type fileRecord struct {
	Name string
	Data []byte
}

// noteFiles notes what is in the mounted files that have stayed, which a step may write to.
func (x *Exchange) noteFiles() error {
	for _, name := range x.journal.stays {
		data, ok := readSmall(x.at(name))
		if !ok {
			continue
		}
		if err := x.journal.add(record{File: &fileRecord{name, data}}); err != nil {
			return err
		}
	}
	return nil
}

// readSmall reads a regular file that is small enough to be noted.
func readSmall(name string) (data []byte, ok bool) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil, false
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile))
	return data, err == nil
}

// restoreFiles writes what was in mounted files, unless it is still there.
func (x *Exchange) restoreFiles() error {
	var errs []error
	for _, r := range x.journal.files {
		f, err := os.OpenFile(x.at(r.Name), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue // nobody else could write to it either
		}
		now, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		if err == nil && !bytes.Equal(now, r.Data) {
			if err = f.Truncate(0); err == nil {
				_, err = f.WriteAt(r.Data, 0)
			}
		}
		if err := errors.Join(err, f.Close()); err != nil {
			errs = append(errs, fmt.Errorf("restore %q: %w", x.at(r.Name), err))
		}
	}
	return errors.Join(errs...)
}

// Noted reports whether a path is that of a mounted file whose contents Out restores.
func (x *Exchange) Noted(path string) bool {
	for _, r := range x.journal.files {
		if filepath.Join(x.Root, r.Name) == path {
			return true
		}
	}
	return false
}
