package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

var errNotRegular = errors.New("not a regular file")

// diskFile is an open regular file. It does without os.File, whose poller and finalizer cost
// more than the rest of opening a small file.
type diskFile struct {
	tree   *diskTree
	name   string
	fd     int
	left   int64
	closed atomic.Bool
}

// newDiskFile takes over fd, which is name in t.
func newDiskFile(t *diskTree, name string, fd int) (fs.File, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotRegular
	}
	if err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &diskFile{tree: t, name: name, fd: fd, left: st.Size}, nil
}

// Stat describes the file that has the name.
func (f *diskFile) Stat() (fs.FileInfo, error) { return f.tree.stat("stat", f.name) }

// Now returns the size and the time of modification that the open file has by now. It is much cheaper than Stat, which
// describes the file in full.
func (f *diskFile) Now() (size int64, modTime time.Time, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, time.Time{}, f.fail(err)
	}
	return st.Size, time.Unix(st.Mtim.Unix()), nil
}

// Read ends after as many bytes as the file had when it was opened.
func (f *diskFile) Read(p []byte) (int, error) {
	if f.closed.Load() {
		return 0, f.fail(fs.ErrClosed)
	}
	if int64(len(p)) > f.left {
		p = p[:f.left]
	}
	if f.left == 0 {
		return 0, io.EOF
	}
	for {
		n, err := unix.Read(f.fd, p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, f.fail(err)
		case n == 0 && len(p) > 0:
			return 0, f.fail(fmt.Errorf("file became shorter: %w", io.ErrUnexpectedEOF))
		}
		f.left -= int64(n)
		return n, nil
	}
}

// Close closes the file.
func (f *diskFile) Close() error {
	if f.closed.Swap(true) {
		return f.fail(fs.ErrClosed)
	}
	return unix.Close(f.fd)
}

func (f *diskFile) fail(err error) error {
	return &fs.PathError{Op: "read", Path: f.name, Err: err}
}
