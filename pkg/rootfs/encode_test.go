package rootfs_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/rootfs/rootfstest"
)

func encode(t testing.TB, x *rootfs.Index) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := x.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo = %d, %v, but wrote %d bytes", n, err, b.Len())
	}
	return b.Bytes()
}

func TestIndexRoundTrip(t *testing.T) {
	odd := reg("odd/\xff\n", "x")
	odd.Header.PAXRecords = map[string]string{
		rootfs.XattrPrefix + "security.capability": "\x01\x00\x00\x02\x00\x04\xff",
		rootfs.XattrPrefix + "user.empty":          "",
		"comment":                                  "hello",
	}
	odd.Header.Uname, odd.Header.Gname = "user", "group"
	odd.Header.ModTime = time.Unix(-5, 999999999)
	odd.Header.AccessTime = time.Unix(1, 2)
	odd.Header.ChangeTime = time.Unix(1<<33, 3)
	odd.Header.Uid, odd.Header.Gid = 3000000000, 5
	files := append(rootfstest.Files(), odd, link("l", "big"), reg("d/.wh.x", ""), reg("d/.wh..wh..opq", ""), reg(strings.Repeat("long/", 100)+"x", ""))
	x, err := rootfs.ReadIndex(bytes.NewReader(tarOf(t, files...)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rootfs.DecodeIndex(bytes.NewReader(encode(t, x)))
	if err != nil {
		t.Fatal(err)
	}
	sameRecords(t, records(got), records(x))
	empty, err := rootfs.DecodeIndex(bytes.NewReader(encode(t, &rootfs.Index{})))
	if err != nil || empty.Len() != 0 {
		t.Errorf("empty index: %v, %v", empty, err)
	}
}

// records lists those of x.
func records(x *rootfs.Index) (list []rootfs.Record) {
	for r := range x.All() {
		list = append(list, *r)
	}
	return list
}

func sameRecords(t *testing.T, got, want []rootfs.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("record\n%+v, want\n%+v", got[i], want[i])
		}
	}
}

// An index gives back what it was given, also what no layer has.
func TestIndexKeepsRecords(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	strange := func() string {
		return strings.Repeat(string([]byte{byte(random.Uint32())}), random.IntN(4)*random.IntN(40000))
	}
	times := []time.Time{{}, time.Unix(0, 0), time.Unix(-1, 999999999), time.Unix(1<<40, 1)}
	when := func() time.Time { return times[random.IntN(len(times))] }
	var want []rootfs.Record
	x := &rootfs.Index{}
	for range 2000 {
		r := rootfs.Record{Offset: random.Int64() >> random.IntN(64), Header: tar.Header{
			Typeflag: byte(random.Uint32()), Format: tar.Format(random.IntN(16)), Name: strange(), Mode: random.Int64(), Size: random.Int64() >> random.IntN(64),
			Uid: random.Int(), Gid: -random.Int(), ModTime: when(),
		}}
		if random.IntN(2) == 0 {
			r.Header.Linkname, r.Header.Uname, r.Header.Gname = strange(), strange(), strange()
		}
		if random.IntN(2) == 0 {
			r.Header.AccessTime, r.Header.ChangeTime, r.Header.Devmajor, r.Header.Devminor = when(), when(), random.Int64(), -random.Int64()
			r.Digest[random.IntN(len(r.Digest))] = 1
		}
		for range random.IntN(3) {
			if r.Header.PAXRecords == nil {
				r.Header.PAXRecords = map[string]string{}
			}
			r.Header.PAXRecords[strange()] = strange()
		}
		want = append(want, r)
		x.Append(&r)
	}
	if x.Len() != len(want) {
		t.Errorf("%d records", x.Len())
	}
	sameRecords(t, records(x), want)
}

// A damaged index is an error, wherever the damage is.
func TestDecodeIndexDamaged(t *testing.T) {
	x, err := rootfs.ReadIndex(bytes.NewReader(tarOf(t, rootfstest.Files()...)), nil)
	if err != nil {
		t.Fatal(err)
	}
	data := encode(t, x)
	for i := range data {
		if _, err := rootfs.DecodeIndex(bytes.NewReader(data[:i])); err == nil {
			t.Errorf("cut at %d: no error", i)
		}
		broken := bytes.Clone(data)
		broken[i] ^= 0x10
		if got, err := rootfs.DecodeIndex(bytes.NewReader(broken)); err == nil && !reflect.DeepEqual(got, x) {
			t.Errorf("damaged at %d: no error", i)
		}
	}
	if _, err := rootfs.DecodeIndex(bytes.NewReader(append(data, 0))); err == nil {
		t.Error("byte at the end: no error")
	}
}

// An index may come from elsewhere. Its names are no more trusted than a layer's.
func TestDecodeIndexNames(t *testing.T) {
	for _, name := range []string{"../a", "/a", "a/", "", "a//b"} {
		x := &rootfs.Index{}
		x.Append(&rootfs.Record{Header: tar.Header{Typeflag: tar.TypeReg, Name: name}})
		if _, err := rootfs.DecodeIndex(bytes.NewReader(encode(t, x))); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
}

// plain returns the encoded index with payload in place of the records.
func plain(t testing.TB, payload []byte) []byte {
	t.Helper()
	b := bytes.NewBufferString("gobuild index\x01")
	z, err := zstd.NewWriter(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func FuzzDecodeIndex(f *testing.F) {
	x, err := rootfs.ReadIndex(bytes.NewReader(tarOf(f, rootfstest.Files()...)), nil)
	if err != nil {
		f.Fatal(err)
	}
	z, err := zstd.NewReader(bytes.NewReader(encode(f, x)[len("gobuild index\x01"):]))
	if err != nil {
		f.Fatal(err)
	}
	payload, err := io.ReadAll(z)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		x, err := rootfs.DecodeIndex(bytes.NewReader(plain(t, payload)))
		if err != nil {
			return
		}
		again, err := rootfs.DecodeIndex(bytes.NewReader(encode(t, x)))
		if err != nil {
			t.Fatalf("encoded again: %v", err)
		}
		if !reflect.DeepEqual(again, x) {
			t.Errorf("encoded again:\n%+v, was\n%+v", again, x)
		}
	})
}

// benchIndex resembles that of a Debian base: 10,000 files, with digests that do not compress.
func benchIndex() *rootfs.Index {
	rng := rand.New(rand.NewPCG(1, 2))
	x := &rootfs.Index{}
	var off int64
	for i := range 10000 {
		rec := rootfs.Record{Header: tar.Header{
			Typeflag: tar.TypeReg, Mode: 0o644, Size: rng.Int64N(100000), ModTime: time.Unix(1700000000+rng.Int64N(1e7)/20, 0), Format: tar.FormatGNU,
			Name: fmt.Sprintf("usr/share/doc/package-%x/file-%x", i/20*7919, rng.Uint32()),
		}, Offset: off}
		off += rec.Header.Size + 1024
		for j := range rec.Digest {
			rec.Digest[j] = byte(rng.Uint32())
		}
		x.Append(&rec)
	}
	return x
}

func BenchmarkEncodeIndex(b *testing.B) {
	x := benchIndex()
	b.ReportAllocs()
	for b.Loop() {
		n, err := x.WriteTo(io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "bytes")
	}
}

func BenchmarkDecodeIndex(b *testing.B) {
	data := encode(b, benchIndex())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rootfs.DecodeIndex(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
