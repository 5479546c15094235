package fileop

import (
	"fmt"
	"io/fs"
	"time"
)

// watched is a file that has to stay what it was when it was selected. Contents are read twice, for the
// key and for the layer, and a layer with other contents must not be filed under the key.
type watched struct {
	fs.File
	want *file
	read int64
}

// Read fails at the end of a file that has changed meanwhile.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.File.Read(p)
	w.read += int64(n)
	if n > 0 && w.read >= w.want.size {
		if changed := w.check(); changed != nil {
			return 0, changed
		}
	}
	return n, err
}

func (w *watched) check() error {
	size, modTime, err := w.now()
	if err != nil {
		return err
	}
	if size != w.want.size || !modTime.Equal(w.want.time()) {
		return fmt.Errorf("%q changed during the build", show(w.want.name))
	}
	return nil
}

// now asks the open file, which files on disk answer with one system call.
func (w *watched) now() (size int64, modTime time.Time, err error) {
	if f, ok := w.File.(interface {
		Now() (size int64, modTime time.Time, err error)
	}); ok {
		return f.Now()
	}
	fi, err := w.Stat()
	if err != nil {
		return 0, time.Time{}, err
	}
	return fi.Size(), fi.ModTime(), nil
}
