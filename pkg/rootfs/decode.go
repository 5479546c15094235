package rootfs

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// DecodeIndex reads what WriteTo wrote, and nothing else: damage, another version and bytes that
// follow are errors. Like [ReadIndex] it takes no more memory than layers of real images need.
func DecodeIndex(r io.Reader) (*Index, error) {
	x, err := decodeIndex(r)
	if err != nil {
		return nil, fmt.Errorf("decode index: %w", err)
	}
	return x, nil
}

func decodeIndex(r io.Reader) (*Index, error) {
	var magic [len(indexMagic)]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return nil, err
	}
	if string(magic[:]) != indexMagic {
		return nil, fmt.Errorf("unknown format %q", magic[:])
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	d := decoder{r: bufio.NewReaderSize(z, 32<<10), keys: make(map[string]string)}
	count := d.uint()
	x := &Index{}
	for range count {
		rec := d.record()
		if d.memory += rec.memory(); d.memory > maxIndexBytes {
			d.fail(errTooLarge)
		}
		if d.err != nil {
			return nil, d.err
		}
		x.Append(&rec)
	}
	if d.err != nil {
		return nil, d.err
	}
	if _, err := d.r.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("bytes after the end: %w", err)
	}
	return x, nil
}

// maxString bounds one string: archive/tar takes headers of a megabyte.
const maxString = 2 << 20

// decoder reads records. After an error its methods return zeros.
type decoder struct {
	r      *bufio.Reader
	err    error
	memory int64
	buf    []byte
	keys   map[string]string // PAX keys, of which there are few

	last   tar.Header // the record before: its strings are mostly those of the next
	mtime  int64
	offset int64
}

func (d *decoder) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) record() Record {
	var r Record
	h := &r.Header
	h.Typeflag = d.byte()
	h.Format = tar.Format(d.uint())
	h.Name = d.name()
	h.Linkname = d.string(d.last.Linkname)
	h.Size, h.Mode = d.int(), d.int()
	h.Uid, h.Gid = int(d.int()), int(d.int())
	h.Devmajor, h.Devminor = d.int(), d.int()
	d.offset += d.int()
	r.Offset = d.offset
	h.Uname, h.Gname = d.string(d.last.Uname), d.string(d.last.Gname)
	h.ModTime, h.AccessTime, h.ChangeTime = d.time(), d.time(), d.time()
	h.PAXRecords = d.records()
	switch d.byte() {
	case digestNone:
	case digestEmpty:
		r.Digest = sha256.Sum256(nil)
	case digestBytes:
		d.full(r.Digest[:])
	default:
		d.fail(fmt.Errorf("%q: unknown digest", h.Name))
	}
	if h.Size < 0 || r.Offset < 0 {
		d.fail(fmt.Errorf("%q: negative size or offset", h.Name))
	}
	d.last = *h
	return r
}

func (d *decoder) name() string {
	shared, prev := d.uint(), d.last.Name
	if shared > uint64(len(prev)) {
		d.fail(fmt.Errorf("%q: the name that follows shares more than there is", prev))
		return ""
	}
	name := string(append([]byte(prev[:shared]), d.bytes()...))
	if d.err == nil && name != Clean(name) {
		d.fail(fmt.Errorf("%q: name is not clean", name))
	}
	return name
}

func (d *decoder) records() map[string]string {
	n := d.uint()
	if n == 0 || d.err != nil {
		return nil
	}
	m := make(map[string]string)
	for range n {
		key := d.bytes()
		k, known := d.keys[string(key)]
		if !known {
			k = string(key)
			d.keys[k] = k
		}
		m[k] = d.string("")
		if d.memory += int64(len(k) + len(m[k])); d.memory > maxIndexBytes {
			d.fail(errTooLarge)
		}
		if d.err != nil {
			return nil
		}
	}
	return m
}

func (d *decoder) time() time.Time {
	nsec := d.uint()
	if nsec == 0 {
		return time.Time{}
	}
	d.mtime += d.int()
	return time.Unix(d.mtime, int64(nsec-1))
}

// string returns prev, and allocates nothing, when the string is the same.
func (d *decoder) string(prev string) string {
	b := d.bytes()
	if string(b) == prev {
		return prev
	}
	return string(b)
}

// bytes returns a string in a buffer that the next call uses again.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > maxString {
		d.fail(fmt.Errorf("string of %d bytes", n))
		return nil
	}
	d.buf = slices.Grow(d.buf[:0], int(n))[:n]
	d.full(d.buf)
	if d.err != nil {
		return nil
	}
	return d.buf
}

func (d *decoder) full(p []byte) {
	if d.err != nil {
		return
	}
	if _, err := io.ReadFull(d.r, p); err != nil {
		d.fail(err)
	}
}

func (d *decoder) byte() byte {
	if d.err != nil {
		return 0
	}
	b, err := d.r.ReadByte()
	if err != nil {
		d.fail(err)
	}
	return b
}

func (d *decoder) uint() uint64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(d.r)
	if err != nil {
		d.fail(err)
		return 0
	}
	return n
}

func (d *decoder) int() int64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(d.r)
	if err != nil {
		d.fail(err)
		return 0
	}
	return n
}
