package diff

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxName bounds a name in a record's file. File systems allow 255 bytes.
const maxName = 1 << 16

// WriteTo writes the record in a form that ReadRecord reads.
func (r *Record) WriteTo(w io.Writer) (int64, error) {
	e := &recordWriter{w: bufio.NewWriterSize(w, 64<<10)}
	e.node(r.Root)
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return e.n, e.err
}

type recordWriter struct {
	w   *bufio.Writer
	n   int64
	err error
	buf [binary.MaxVarintLen64]byte
}

func (e *recordWriter) write(p []byte) {
	if e.err == nil {
		var n int
		n, e.err = e.w.Write(p)
		e.n += int64(n)
	}
}

func (e *recordWriter) number(v uint64) { e.write(e.buf[:binary.PutUvarint(e.buf[:], v)]) }

func (e *recordWriter) node(n *Node) {
	e.number(uint64(len(n.Name)))
	e.write([]byte(n.Name))
	for _, v := range n.Stamp.numbers() {
		e.number(v)
	}
	e.number(uint64(len(n.Children)))
	for _, c := range n.Children {
		e.node(c)
	}
}

func (s *Stamp) numbers() [9]uint64 {
	return [9]uint64{
		s.Dev, s.Ino, s.Rdev, uint64(s.Size), uint64(s.Mode), uint64(s.UID), uint64(s.GID),
		uint64(s.Mtime), uint64(s.Ctime),
	}
}

// ReadRecord reads a record that WriteTo wrote.
func ReadRecord(r io.Reader) (*Record, error) {
	d := &recordReader{r: bufio.NewReaderSize(r, 64<<10)}
	root := d.node(0)
	if d.err != nil {
		return nil, fmt.Errorf("read record: %w", d.err)
	}
	return &Record{root}, nil
}

type recordReader struct {
	r   *bufio.Reader
	err error
}

func (d *recordReader) number() uint64 {
	if d.err != nil {
		return 0
	}
	var v uint64
	v, d.err = binary.ReadUvarint(d.r)
	return v
}

func (d *recordReader) name() string {
	n := d.number()
	if n > maxName && d.err == nil {
		d.err = errors.New("name is too long")
	}
	if d.err != nil {
		return ""
	}
	buf := make([]byte, n)
	_, d.err = io.ReadFull(d.r, buf)
	return string(buf)
}

func (d *recordReader) node(depth int) *Node {
	const deepest = 10_000 // deeper than a path can be
	if depth > deepest && d.err == nil {
		d.err = errors.New("record is too deep")
	}
	n := &Node{Name: d.name()}
	var v [9]uint64
	for i := range v {
		v[i] = d.number()
	}
	n.Stamp = Stamp{
		Dev: v[0], Ino: v[1], Rdev: v[2], Size: int64(v[3]), Mode: uint32(v[4]), UID: uint32(v[5]), GID: uint32(v[6]),
		Mtime: int64(v[7]), Ctime: int64(v[8]),
	}
	for count := d.number(); count > 0 && d.err == nil; count-- {
		n.Children = append(n.Children, d.node(depth+1))
	}
	return n
}
