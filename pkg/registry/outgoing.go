package registry

import (
	"errors"
	"io"
	"sync"
)

// sourceError says that the layer could not be read, which sending it again does not mend.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "read layer: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// source is a layer on its way out, from an offset on. It keeps the errors of the layer apart from those
// of the connection.
type source struct {
	t    *transfer
	from int64

	mu  sync.Mutex
	err error
}

func (s *source) open() *outgoing { return &outgoing{source: s, off: s.from, told: s.from} }

func (s *source) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// outgoing is one request's reader of a source. It opens the layer when it is read, since that may take a
// request of its own.
type outgoing struct {
	source    *source
	off, told int64

	mu   sync.Mutex // net/http closes a body at any time
	rc   io.ReadCloser
	shut bool
}

// Read implements io.Reader. After Close an error is that of the connection, which gave up the body.
func (o *outgoing) Read(p []byte) (int, error) {
	rc, err := o.reader()
	n := 0
	if err == nil {
		n, err = rc.Read(p)
	}
	o.off += int64(n)
	t := o.source.t
	if o.off-o.told >= progressStep {
		o.told = o.off
		t.client.moved(t.s, t.desc, o.off, Push)
	}
	if errors.Is(err, io.EOF) && o.off < t.desc.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		o.failed(err)
	}
	return n, err
}

func (o *outgoing) reader() (io.ReadCloser, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.shut {
		return nil, errReaderClosed
	}
	if o.rc != nil {
		return o.rc, nil
	}
	rc, err := o.source.t.layer.Compressed()
	if err != nil {
		return nil, err
	}
	o.rc = rc
	_, err = io.CopyN(io.Discard, rc, o.source.from)
	return rc, err
}

func (o *outgoing) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.shut {
		return
	}
	o.source.mu.Lock()
	o.source.err = err
	o.source.mu.Unlock()
}

// Close implements io.Closer.
func (o *outgoing) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shut = true
	if o.rc == nil {
		return nil
	}
	return o.rc.Close()
}
