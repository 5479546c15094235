package rootfs

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"maps"
	"slices"
	"time"
	"unsafe"
)

// packed holds records as bytes: some 100 for each, the name included, where a Record with its strings has 350. There are
// hundreds of thousands of them, and the collector need not look into bytes.
type packed struct {
	// chunks are filled one after another. None is ever moved, so that growing takes no second copy.
	chunks [][]byte
	words  []string // which many records share
	known  map[string]uint64
}

// position says where a record begins.
type position struct{ chunk, offset uint32 }

// Sizes of chunks, in bytes: small for the many layers that have a few files.
const (
	minChunk = 1 << 10
	maxChunk = 64 << 10
)

// What a record has besides what all have.
const (
	hasDigest = 1 << iota
	hasLink
	hasOwnerNames
	hasOtherTimes // of access and of change
	hasDevice
	hasPAX
)

func flagsOf(r *Record) (flags byte) {
	h := &r.Header
	if r.Digest != [sha256.Size]byte{} {
		flags |= hasDigest
	}
	if h.Linkname != "" {
		flags |= hasLink
	}
	if h.Uname != "" || h.Gname != "" {
		flags |= hasOwnerNames
	}
	if !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() {
		flags |= hasOtherTimes
	}
	if h.Devmajor != 0 || h.Devminor != 0 {
		flags |= hasDevice
	}
	if len(h.PAXRecords) > 0 {
		flags |= hasPAX
	}
	return flags
}

// append adds a record.
func (p *packed) append(r *Record) {
	h := &r.Header
	flags := flagsOf(r)
	b := make([]byte, 0, 256)
	b = append(b, h.Typeflag, flags)
	b = appendString(b, h.Name)
	for _, n := range [...]int64{int64(h.Format), h.Mode, h.Size, int64(h.Uid), int64(h.Gid), r.Offset} {
		b = binary.AppendVarint(b, n)
	}
	b = appendTime(b, h.ModTime)
	if flags&hasDigest != 0 {
		b = append(b, r.Digest[:]...)
	}
	if flags&hasLink != 0 {
		b = appendString(b, h.Linkname)
	}
	if flags&hasOwnerNames != 0 {
		b = binary.AppendUvarint(binary.AppendUvarint(b, p.word(h.Uname)), p.word(h.Gname))
	}
	if flags&hasOtherTimes != 0 {
		b = appendTime(appendTime(b, h.AccessTime), h.ChangeTime)
	}
	if flags&hasDevice != 0 {
		b = binary.AppendVarint(binary.AppendVarint(b, h.Devmajor), h.Devminor)
	}
	if flags&hasPAX != 0 {
		b = binary.AppendUvarint(b, uint64(len(h.PAXRecords)))
		for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			b = appendString(binary.AppendUvarint(b, p.word(k)), h.PAXRecords[k])
		}
	}
	p.add(b)
}

// add puts the bytes of a record into one chunk.
func (p *packed) add(b []byte) {
	last := len(p.chunks) - 1
	if last < 0 || cap(p.chunks[last])-len(p.chunks[last]) < len(b) {
		size := minChunk
		if last >= 0 {
			size = min(2*cap(p.chunks[last]), maxChunk)
		}
		p.chunks = append(p.chunks, make([]byte, 0, max(size, len(b))))
		last++
	}
	p.chunks[last] = append(p.chunks[last], b...)
}

// word returns the number of a string.
func (p *packed) word(s string) uint64 {
	n, ok := p.known[s]
	if !ok {
		if p.known == nil {
			p.known = make(map[string]uint64)
		}
		n = uint64(len(p.words))
		p.words, p.known[s] = append(p.words, s), n
	}
	return n
}

// all returns the records with their places. A record is valid until the next one.
func (p *packed) all() iter.Seq2[position, *Record] {
	return func(yield func(position, *Record) bool) {
		var r Record
		for i, chunk := range p.chunks {
			for u := (unpacker{b: chunk, words: p.words}); len(u.b) > 0; {
				at := position{uint32(i), uint32(len(chunk) - len(u.b))}
				u.record(&r)
				if !yield(at, &r) {
					return
				}
			}
		}
	}
}

// at returns the record that begins there.
func (p *packed) at(pos position) *Record {
	u := unpacker{b: p.chunks[pos.chunk][pos.offset:], words: p.words}
	r := &Record{}
	u.record(r)
	return r
}

// unpacker takes apart what append has put together.
type unpacker struct {
	b     []byte
	words []string
}

func (u *unpacker) record(r *Record) {
	*r = Record{}
	h := &r.Header
	h.Typeflag = u.b[0]
	flags := u.b[1]
	u.b = u.b[2:]
	h.Name = u.string()
	h.Format, h.Mode, h.Size = tar.Format(u.int()), u.int(), u.int()
	h.Uid, h.Gid, r.Offset = int(u.int()), int(u.int()), u.int()
	h.ModTime = u.time()
	if flags&hasDigest != 0 {
		u.b = u.b[copy(r.Digest[:], u.b):]
	}
	if flags&hasLink != 0 {
		h.Linkname = u.string()
	}
	if flags&hasOwnerNames != 0 {
		h.Uname, h.Gname = u.words[u.uint()], u.words[u.uint()]
	}
	if flags&hasOtherTimes != 0 {
		h.AccessTime, h.ChangeTime = u.time(), u.time()
	}
	if flags&hasDevice != 0 {
		h.Devmajor, h.Devminor = u.int(), u.int()
	}
	if flags&hasPAX != 0 {
		n := u.uint()
		h.PAXRecords = make(map[string]string, n)
		for range n {
			k := u.words[u.uint()]
			h.PAXRecords[k] = u.string()
		}
	}
}

func (u *unpacker) uint() uint64 {
	v, n := binary.Uvarint(u.b)
	u.b = u.b[n:]
	return v
}

func (u *unpacker) int() int64 {
	v, n := binary.Varint(u.b)
	u.b = u.b[n:]
	return v
}

// string returns a view of bytes in a chunk, which never change. A tree of a million files has as many names.
func (u *unpacker) string() string {
	n := u.uint()
	s := unsafe.String(unsafe.SliceData(u.b), n)
	u.b = u.b[n:]
	return s
}

func (u *unpacker) time() time.Time {
	nsec := u.uint()
	if nsec == 0 {
		return time.Time{}
	}
	return time.Unix(u.int(), int64(nsec-1))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime appends 0 for the zero time, and otherwise the nanoseconds plus 1 and the seconds.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return binary.AppendVarint(binary.AppendUvarint(b, uint64(t.Nanosecond())+1), t.Unix())
}
