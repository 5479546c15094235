package fileop

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/gobuild-dev/gobuild/internal/decompress"
)

// sniff reports whether a file is an archive that ADD unpacks: a tar file, compressed or not, with a first entry
// that can be read. Anything else is no error, unless the file itself cannot be read.
func sniff(open func() (io.ReadCloser, error)) (bool, decompress.Format, error) {
	f, err := open()
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = f.Close() }()
	src := &errReader{r: f}
	b := bufio.NewReader(src)
	head, err := b.Peek(decompress.MagicLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, 0, err
	}
	c := decompress.Detect(head)
	r, err := decompress.NewReader(b, c)
	if err != nil {
		return false, 0, src.err
	}
	defer func() { _ = r.Close() }()
	if _, err := tar.NewReader(r).Next(); err != nil {
		return false, 0, src.err
	}
	return true, c, nil
}

// errReader remembers the error of the file itself, apart from those of what is in it.
type errReader struct {
	r   io.Reader
	err error
}

func (e *errReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = fmt.Errorf("read archive: %w", err)
	}
	return n, err
}
