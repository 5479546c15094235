package rootfs_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/rootfs/rootfstest"
)

// tarOf returns files as a tar, in their order and with their names as they are.
func tarOf(t testing.TB, files ...rootfstest.File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.Header
		h.Size = int64(len(f.Body))
		if h.Typeflag == tar.TypeDir && !strings.HasSuffix(h.Name, "/") {
			h.Name += "/"
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.Body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reg(name, body string) rootfstest.File {
	return rootfstest.File{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, Body: body}
}

func dir(name string, mode int64) rootfstest.File {
	return rootfstest.File{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}}
}

func symlink(name, target string) rootfstest.File {
	return rootfstest.File{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func link(name, target string) rootfstest.File {
	return rootfstest.File{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

func TestReadIndex(t *testing.T) {
	data := tarOf(t, rootfstest.Files()...)
	var visited []string
	x, err := rootfs.ReadIndex(bytes.NewReader(data), func(rec *rootfs.Record, body io.Reader) error {
		visited = append(visited, rec.Header.Name)
		if len(visited)%2 == 0 { // half of the contents are read, half left
			_, err := io.CopyN(io.Discard, body, rec.Header.Size/2)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	files := rootfstest.Files()
	if x.Len() != len(files) || len(visited) != len(files) {
		t.Fatalf("%d records, %d visits, want %d", x.Len(), len(visited), len(files))
	}
	for i, f := range files {
		rec := records(x)[i]
		if rec.Header.Name != f.Header.Name || visited[i] != f.Header.Name || rec.Header.Typeflag != f.Header.Typeflag || rec.Header.Size != f.Header.Size {
			t.Errorf("record %d is %+v, want %+v", i, rec.Header, f.Header)
		}
		if f.Header.Typeflag != tar.TypeReg {
			if rec.Digest != [32]byte{} {
				t.Errorf("%q has a digest", rec.Header.Name)
			}
			continue
		}
		if rec.Digest != sha256.Sum256([]byte(f.Body)) {
			t.Errorf("%q: wrong digest", rec.Header.Name)
		}
		if got := data[rec.Offset : rec.Offset+rec.Header.Size]; string(got) != f.Body {
			t.Errorf("%q: its contents are not at its offset", rec.Header.Name)
		}
	}
}

// Trap 80: names are clipped at the root.
func TestReadIndexNames(t *testing.T) {
	x, err := rootfs.ReadIndex(bytes.NewReader(tarOf(t,
		dir("./", 0o755), reg("../../tini", ""), reg("/abs", ""), reg("a//b/./../c", ""), link("l", "./../abs"), symlink("s", "../x/./"), reg("d/.wh..wh..opq", ""),
		reg(strings.Repeat("n", 300)+"/\xff\n", ""),
	)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{".", "tini", "abs", "a/c", "l", "s", "d/.wh..wh..opq", strings.Repeat("n", 300) + "/\xff\n"} {
		if got := records(x)[i].Header.Name; got != want {
			t.Errorf("name %q, want %q", got, want)
		}
	}
	if got := records(x)[4].Header.Linkname; got != "abs" {
		t.Errorf("hard link to %q", got)
	}
	if got := records(x)[5].Header.Linkname; got != "../x/./" {
		t.Errorf("symbolic link to %q", got)
	}
}

func TestReadIndexDamaged(t *testing.T) {
	data := tarOf(t, rootfstest.Files()...)
	for _, n := range []int{100, 512, 5000, len(data) / 2} {
		if _, err := rootfs.ReadIndex(bytes.NewReader(data[:n]), nil); n != 512 && err == nil {
			t.Errorf("cut at %d: no error", n)
		}
	}
	broken := bytes.Clone(data)
	broken[600] ^= 1
	broken[520] ^= 1
	if _, err := rootfs.ReadIndex(bytes.NewReader(broken), nil); err == nil {
		t.Error("damaged header: no error")
	}
	boom := errors.New("boom")
	if _, err := rootfs.ReadIndex(io.MultiReader(bytes.NewReader(data[:9000]), iotestErr{boom}), nil); !errors.Is(err, boom) {
		t.Errorf("error of the reader: %v", err)
	}
	for _, stop := range []error{boom, io.EOF} {
		_, err := rootfs.ReadIndex(bytes.NewReader(data), func(*rootfs.Record, io.Reader) error { return stop })
		if !errors.Is(err, stop) {
			t.Errorf("error of visit: %v", err)
		}
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

// The bytes after the archive belong to the diff ID, so they are read.
func TestReadIndexReadsToTheEnd(t *testing.T) {
	r := bytes.NewReader(append(tarOf(t, reg("a", "x")), make([]byte, 1<<20)...))
	if _, err := rootfs.ReadIndex(r, nil); err != nil || r.Len() != 0 {
		t.Errorf("%d bytes left, %v", r.Len(), err)
	}
}

// GNU tar stores sparse files in two ways.
func TestReadIndexSparse(t *testing.T) {
	for _, format := range []string{"gnu", "posix"} {
		data := gnuSparse(t, format, 5<<20)
		x, err := rootfs.ReadIndex(bytes.NewReader(data), nil)
		if err != nil {
			t.Fatal(err)
		}
		if x.Len() != 1 || !records(x)[0].Sparse() || records(x)[0].Header.Name != "sparse" || records(x)[0].Header.Size != 5<<20 {
			t.Errorf("%s: %+v", format, records(x))
		}
		want := make([]byte, 5<<20)
		copy(want[1<<20:], "data")
		if records(x)[0].Digest != sha256.Sum256(want) {
			t.Errorf("%s: wrong digest", format)
		}
	}
	// A few bytes that claim a petabyte must not keep us busy.
	start := time.Now()
	if _, err := rootfs.ReadIndex(bytes.NewReader(gnuSparse(t, "gnu", 1<<43)), nil); err == nil {
		t.Error("a sparse file of 8 TiB was read")
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

func gnuSparse(t *testing.T, format string, size int64) []byte {
	t.Helper()
	d := t.TempDir()
	f, err := os.Create(filepath.Join(d, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("data"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	data, err := exec.CommandContext(t.Context(), "tar", "-C", d, "--sparse", "--format="+format, "-c", "sparse").Output()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A header of a megabyte costs a megabyte.
func TestReadIndexHugeHeaders(t *testing.T) {
	h := reg("a", "")
	h.Header.PAXRecords = map[string]string{rootfs.XattrPrefix + "user.x": strings.Repeat("x", 2<<20)}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&h.Header); err == nil {
		_ = w.Close()
		if _, err := rootfs.ReadIndex(&b, nil); err == nil {
			t.Error("a header of two megabytes was read")
		}
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add(tarOf(f, rootfstest.Files()[:16]...))
	f.Add(tarOf(f, dir("a", 0o755), reg("a/.wh.x", ""), reg("a/.wh..wh..opq", ""), link("../b", "../../c")))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := rootfs.ReadIndex(bytes.NewReader(data), nil)
		if err != nil {
			return
		}
		for rec := range x.All() {
			if rec.Header.Name != rootfs.Clean(rec.Header.Name) {
				t.Errorf("name %q", rec.Header.Name)
			}
			if rec.Offset > int64(len(data)) {
				t.Errorf("offset %d beyond %d", rec.Offset, len(data))
			}
		}
	})
}

func BenchmarkReadIndex(b *testing.B) {
	var files []rootfstest.File
	for i := range 10000 {
		files = append(files, reg(fmt.Sprintf("usr/share/doc/package-%d/file-%d", i/20, i), strings.Repeat("x", 4000)))
	}
	data := tarOf(b, files...)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := rootfs.ReadIndex(bytes.NewReader(data), nil); err != nil {
			b.Fatal(err)
		}
	}
}
