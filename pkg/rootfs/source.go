package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// source gives the contents of the files of one layer. It is shared by the trees that have
// the layer.
//
// A layer can only be read from its beginning, and files are mostly asked for in the order in
// which they lie in it. So a stream that was opened for one file goes on to the next. For going
// back a new stream is opened, but when those have read as much anew as the layer is long, the layer is
// decompressed once more, into a temporary file, where everything is at hand.
type source struct {
	layer   v1.Layer
	diffID  v1.Hash
	options Options
	end     int64 // where contents end

	mu     sync.Mutex
	refs   int
	idle   []*stream
	anew   int64    // bytes that new streams skipped
	spool  *os.File // the uncompressed layer, without a name; nil until it is needed
	opened bool     // a stream was opened before
}

// stream is the uncompressed layer from pos on.
type stream struct {
	rc  io.ReadCloser
	pos int64
}

// maxIdle is how many streams wait for the next file. Each holds a decompressor, and perhaps a connection.
const maxIdle = 2

func (s *source) retain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs++
}

func (s *source) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs--; s.refs > 0 {
		return nil
	}
	var errs []error
	for _, st := range s.idle {
		errs = append(errs, st.rc.Close())
	}
	s.idle = nil
	if s.spool != nil {
		errs = append(errs, s.spool.Close())
		s.spool = nil
	}
	return errors.Join(errs...)
}

// open returns the contents of rec, and perhaps more behind them.
func (s *source) open(rec *Record) (io.ReadCloser, error) {
	if rec.Header.Size == 0 {
		return nothing{}, nil
	}
	if s.options.Contents != nil {
		rc, err := s.options.Contents(s.diffID, rec)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return rc, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool == nil && !rec.Sparse() {
		st, err := s.stream(rec.Offset)
		if err != nil {
			return nil, err
		}
		if st != nil {
			return &streamReader{source: s, stream: st}, nil
		}
	}
	if err := s.spoolAll(); err != nil {
		return nil, err
	}
	if rec.Sparse() {
		return s.openSparse(rec)
	}
	return io.NopCloser(io.NewSectionReader(s.spool, rec.Offset, rec.Header.Size)), nil
}

// stream returns a stream at offset, or nil when it is time to spool. It is called with mu held.
func (s *source) stream(offset int64) (*stream, error) {
	best := -1
	for i, st := range s.idle {
		if st.pos <= offset && (best < 0 || st.pos > s.idle[best].pos) {
			best = i
		}
	}
	var st *stream
	switch {
	case best >= 0:
		st = s.idle[best]
		s.idle = append(s.idle[:best], s.idle[best+1:]...)
	case s.opened && s.anew+offset > s.end:
		return nil, nil
	default:
		rc, err := s.layer.Uncompressed()
		if err != nil {
			return nil, err
		}
		if s.opened {
			s.anew += offset
		}
		s.opened = true
		st = &stream{rc: rc}
	}
	if err := st.skip(offset - st.pos); err != nil {
		st.rc.Close()
		return nil, err
	}
	return st, nil
}

func (st *stream) skip(n int64) error {
	n, err := io.CopyN(io.Discard, st.rc, n)
	st.pos += n
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("layer ends early: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// giveBack takes a stream that is no longer read.
func (s *source) giveBack(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) < maxIdle && s.spool == nil && s.refs > 0 {
		s.idle = append(s.idle, st)
		return nil
	}
	return st.rc.Close()
}

// spoolAll puts the uncompressed layer into a temporary file that has no name, so that nothing
// is left of it even when the process is killed. It is called with mu held.
func (s *source) spoolAll() error {
	if s.spool != nil {
		return nil
	}
	rc, err := s.layer.Uncompressed()
	if err != nil {
		return err
	}
	defer rc.Close() // it was read only
	f, err := os.CreateTemp(s.options.TempDir, "layer-*")
	if err != nil {
		return err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, rc)
	}
	if err != nil {
		f.Close()
		return err
	}
	s.spool = f
	for _, st := range s.idle {
		st.rc.Close()
	}
	s.idle = nil
	return nil
}

// openSparse finds rec in the spooled layer and lets archive/tar put the holes in.
func (s *source) openSparse(rec *Record) (io.ReadCloser, error) {
	in := &seekCounter{r: io.NewSectionReader(s.spool, 0, 1<<62)}
	for r := tar.NewReader(in); ; {
		_, err := r.Next()
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, fmt.Errorf("find sparse file: %w", err)
		}
		if in.pos() == rec.Offset {
			return io.NopCloser(r), nil
		}
	}
}

// seekCounter lets archive/tar skip contents.
type seekCounter struct{ r *io.SectionReader }

func (c *seekCounter) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *seekCounter) Seek(offset int64, whence int) (int64, error) { return c.r.Seek(offset, whence) }

func (c *seekCounter) pos() int64 {
	n, _ := c.r.Seek(0, io.SeekCurrent) // cannot fail
	return n
}

// streamReader reads a file from a stream, and gives the stream back.
type streamReader struct {
	source *source
	stream *stream
}

func (r *streamReader) Read(p []byte) (int, error) {
	n, err := r.stream.rc.Read(p)
	r.stream.pos += int64(n)
	return n, err
}

func (r *streamReader) Close() error { return r.source.giveBack(r.stream) }

// nothing is the contents of an empty file.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }
func (nothing) Close() error             { return nil }

// layerFile is an open file of a LayerTree.
type layerFile struct {
	info   *FileInfo
	r      io.ReadCloser
	left   int64
	closed bool
}

// Stat describes the file.
func (f *layerFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Read ends after as many bytes as Stat says.
func (f *layerFile) Read(p []byte) (int, error) {
	if f.closed {
		return 0, f.fail(fs.ErrClosed)
	}
	if f.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, err := f.r.Read(p)
	f.left -= int64(n)
	switch {
	case f.left == 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, f.fail(fmt.Errorf("layer ends early: %w", io.ErrUnexpectedEOF))
	case err != nil:
		return n, f.fail(err)
	}
	return n, nil
}

// Close ends the use of the file.
func (f *layerFile) Close() error {
	if f.closed {
		return f.fail(fs.ErrClosed)
	}
	f.closed = true
	return f.r.Close()
}

func (f *layerFile) fail(err error) error {
	return &fs.PathError{Op: "read", Path: f.info.entry.Header.Name, Err: err}
}
