// Package ahead reads in another goroutine than the one that uses what was read, so that decompressing a
// layer and writing its files happen at the same time.
package ahead

import (
	"hash"
	"io"
)

// A layer takes at most depth+1 buffers of this size, in bytes.
const (
	bufSize = 512 << 10
	depth   = 3
)

// Reader reads ahead. It must be closed.
type Reader struct {
	full chan chunk
	free chan []byte
	stop chan struct{}
	done chan struct{}

	current chunk
	rest    []byte
}

type chunk struct {
	buf []byte
	n   int
	err error
}

// New reads from r and adds all that it has read to sum.
func New(r io.Reader, sum hash.Hash) *Reader {
	a := &Reader{
		full: make(chan chunk, depth), free: make(chan []byte, depth),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	for range depth {
		a.free <- nil
	}
	go a.run(r, sum)
	return a
}

func (a *Reader) run(r io.Reader, sum hash.Hash) {
	defer close(a.done)
	defer close(a.full)
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.stop:
			return
		}
		if buf == nil {
			buf = make([]byte, bufSize)
		}
		n, err := fill(r, buf)
		sum.Write(buf[:n])
		select {
		case a.full <- chunk{buf, n, err}:
		case <-a.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// fill reads until buf is full or there is an error, which is what r returned.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// Read returns what was read, and in the end the error of the underlying reader. The sum is complete when
// that is io.EOF.
func (a *Reader) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.current.err != nil {
			return 0, a.current.err
		}
		if a.current.buf != nil {
			a.free <- a.current.buf
		}
		c, ok := <-a.full
		if !ok {
			return 0, io.ErrClosedPipe
		}
		a.current, a.rest = c, c.buf[:c.n]
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close stops reading. It waits for a read that is under way; the caller ends that by closing what is
// read from, or its context.
func (a *Reader) Close() {
	close(a.stop)
	<-a.done
}
