// Package members compresses a stream as a row of independent members, several at a time.
//
// Both gzip (RFC 1952, 2.2) and zstd (RFC 8878, 3) say that compressed files put one after
// another are a compressed file, and every reader takes them as one. Members of a fixed uncompressed size
// can be made in parallel, and the bytes are the same for any number of cores; it
// costs about one per cent of size, because each member begins without a history.
package members

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// Encoder makes one member of the bytes in src and appends it to dst. It is used by one
// goroutine at a time. The result must depend on src alone.
type Encoder interface {
	Encode(dst, src []byte) ([]byte, error)
}

// Format is how members are made.
type Format struct {
	// Size is the uncompressed size of each member but the last.
	Size int
	// New returns an encoder, and is called once for each worker that has something to do.
	New func() (Encoder, error)

	name string // tells formats apart
}

// maxWorkers bounds the memory of a writer on machines with many cores: each worker needs two
// chunks of Format.Size and their compressed forms, besides its encoder.
const maxWorkers = 8

// Writer compresses what is written to it. Its methods are called from one goroutine.
type Writer struct {
	format Format
	pool   *pool
	size   int
	cur    *chunk
	free   chan *chunk // chunks not in use; their number bounds the memory
	made   int         // how many chunks there are
	limit  int
	work   chan *chunk // to the workers, in no order
	order  chan *chunk // to raw and then to out, in order
	group  sync.WaitGroup
	any    bool // a chunk was sent

	failed atomic.Pointer[error]
	closed bool
}

// chunk is a member on its way through the pipeline.
type chunk struct {
	in, out []byte
	done    chan error // receives when out is complete
}

// NewWriter returns a writer of members to out. What is written goes, uncompressed and in
// order, to raw too, for a digest; raw may be nil. Neither is used concurrently with itself.
// The caller has to call Close, which ends the goroutines that work for the writer. What it leaves for others
// is kept by reuse, which may be nil.
func NewWriter(out, raw io.Writer, f Format, reuse *Reuse) *Writer {
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	limit := 2*workers + 2
	w := &Writer{
		format: f,
		pool:   reuse.of(f.name),
		size:   f.Size,
		free:   make(chan *chunk, limit),
		limit:  limit,
		work:   make(chan *chunk, limit),
		order:  make(chan *chunk, limit),
	}
	for range workers {
		w.group.Go(w.encode)
	}
	tapped := w.order
	if raw != nil {
		tapped = make(chan *chunk, limit)
		w.group.Go(func() { w.tap(raw, tapped) })
	}
	w.group.Go(func() { w.write(out, tapped) })
	return w
}

// encode is a worker.
func (w *Writer) encode() {
	var e Encoder
	for c := range w.work {
		var err error
		if e == nil {
			e, err = w.pool.encoder(w.format)
		}
		if err == nil && w.failed.Load() == nil {
			c.out, err = e.Encode(c.out[:0], c.in)
		}
		c.done <- err
	}
	if e != nil {
		w.pool.encoders.Put(e)
	}
}

// tap shows the uncompressed bytes to raw.
func (w *Writer) tap(raw io.Writer, next chan<- *chunk) {
	defer close(next)
	for c := range w.order {
		if w.failed.Load() == nil {
			if _, err := raw.Write(c.in); err != nil {
				w.fail(err)
			}
		}
		next <- c
	}
}

// write writes members in order, and gives their chunks back.
func (w *Writer) write(out io.Writer, chunks <-chan *chunk) {
	for c := range chunks {
		err := <-c.done
		if err == nil && w.failed.Load() == nil {
			_, err = out.Write(c.out)
		}
		if err != nil {
			w.fail(err)
		}
		c.in = c.in[:0]
		w.free <- c
	}
}

// fail keeps the first error. The pipeline goes on to take chunks, and does nothing with them.
func (w *Writer) fail(err error) { w.failed.CompareAndSwap(nil, &err) }

func (w *Writer) err() error {
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

var errClosed = errors.New("write to a closed writer")

// space returns the part of the current chunk that is not filled; it is never empty.
func (w *Writer) space() ([]byte, error) {
	if w.closed {
		return nil, errClosed
	}
	if err := w.err(); err != nil {
		return nil, err
	}
	if w.cur == nil {
		w.cur = w.get()
	}
	return w.cur.in[len(w.cur.in):w.size], nil
}

// get returns an empty chunk, and waits for one when there are enough.
func (w *Writer) get() *chunk {
	select {
	case c := <-w.free:
		return c
	default:
	}
	if w.made < w.limit {
		w.made++
		return w.pool.chunk(w.size)
	}
	return <-w.free
}

// advance says that n bytes of space were filled.
func (w *Writer) advance(n int) {
	w.cur.in = w.cur.in[:len(w.cur.in)+n]
	if len(w.cur.in) == w.size {
		w.send()
	}
}

func (w *Writer) send() {
	w.any = true
	w.work <- w.cur
	w.order <- w.cur
	w.cur = nil
}

// Write takes p. An error may be that of an earlier write.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		space, err := w.space()
		if err != nil {
			return n, err
		}
		m := copy(space, p)
		w.advance(m)
		n, p = n+m, p[m:]
	}
	return n, nil
}

// ReadFrom takes what r has, without copying it, until r ends.
func (w *Writer) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		space, err := w.space()
		if err != nil {
			return n, err
		}
		m, err := r.Read(space)
		w.advance(m)
		n += int64(m)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Close writes what is left and waits until all is written. It does not close the writers
// below. A stream of no bytes becomes one empty member. Calling it again does nothing but return the error.
func (w *Writer) Close() error {
	if w.closed {
		return w.err()
	}
	w.closed = true
	if w.cur == nil && !w.any {
		w.cur = w.get()
	}
	if w.cur != nil {
		w.send()
	}
	close(w.work)
	close(w.order)
	w.group.Wait()
	close(w.free)
	for c := range w.free {
		w.pool.chunks.Put(c)
	}
	return w.err()
}
