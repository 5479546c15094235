package sandboxtest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// read consumes changes, holds them against the contract of the stream, and returns one line for each:
//
//   - f 0644 0:0 path "contents"	(added or replaced; d l h p c b for other types)
//   - path					(removed)
//     ! d 0755 0:0 path			(opaque)
//
// Contents of more than 64 bytes are given by their size.
func read(t testing.TB, changes snapshot.Changes) []string {
	t.Helper()
	var lines []string
	var last []string
	seen := make(map[string]byte)
	for c, err := range changes {
		if err != nil {
			t.Fatalf("read changes: %v", err)
		}
		name := c.Header.Name
		parts := strings.Split(name, "/")
		if path.Clean(name) != name || strings.HasPrefix(name, "/") {
			t.Errorf("name %q is not clean", name)
		}
		if slices.Compare(last, parts) >= 0 {
			t.Errorf("%q does not come after %q", name, path.Join(last...))
		}
		last = parts
		if dir := path.Dir(name); dir != "." && seen[dir] != tar.TypeDir {
			t.Errorf("%q comes without its parent directory", name)
		}
		if c.Kind != snapshot.Delete {
			seen[name] = c.Header.Typeflag
		}
		if _, ok := seen[c.Header.Linkname]; c.Header.Typeflag == tar.TypeLink && !ok {
			t.Errorf("%q is a link to %q, which did not come before", name, c.Header.Linkname)
		}
		lines = append(lines, line(t, c))
	}
	return lines
}

func line(t testing.TB, c snapshot.Change) string {
	t.Helper()
	h := c.Header
	sign := "+"
	switch c.Kind {
	case snapshot.Add:
	case snapshot.Delete:
		return "- " + h.Name
	case snapshot.Opaque:
		sign = "!"
	}
	letter := map[byte]string{
		tar.TypeReg: "f", tar.TypeDir: "d", tar.TypeSymlink: "l", tar.TypeLink: "h", tar.TypeFifo: "p",
		tar.TypeChar: "c", tar.TypeBlock: "b",
	}[h.Typeflag]
	s := fmt.Sprintf("%s %s %04o %d:%d %s", sign, letter, h.Mode, h.Uid, h.Gid, h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		s += " " + contents(t, c)
	case tar.TypeSymlink, tar.TypeLink:
		s = fmt.Sprintf("%s %s %s -> %s", sign, letter, h.Name, h.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		s += fmt.Sprintf(" %d,%d", h.Devmajor, h.Devminor)
	}
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		s += fmt.Sprintf(" %s=%q", strings.TrimPrefix(key, "SCHILY.xattr."), h.PAXRecords[key])
	}
	return s
}

func contents(t testing.TB, c snapshot.Change) string {
	t.Helper()
	if c.Open == nil {
		if c.Header.Size != 0 {
			t.Errorf("%q has %d bytes and no contents", c.Header.Name, c.Header.Size)
		}
		return `""`
	}
	r, err := c.Open()
	if err != nil {
		t.Fatalf("open %q: %v", c.Header.Name, err)
	}
	defer r.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Fatalf("read %q: %v", c.Header.Name, err)
	}
	rest, err := io.Copy(io.Discard, r)
	if err != nil {
		t.Fatalf("read %q: %v", c.Header.Name, err)
	}
	if int64(n)+rest != c.Header.Size {
		t.Errorf("%q has %d bytes of contents and size %d", c.Header.Name, int64(n)+rest, c.Header.Size)
	}
	if rest > 0 || n == 64 {
		return fmt.Sprintf("(%d)", c.Header.Size)
	}
	return fmt.Sprintf("%q", head[:n])
}
