package fileop_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/internal/fileop"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// A spec describes files, one a line: type, mode, owner, name, then the contents of a file, the
// target of a link, or the numbers of a device. Types are those of ls, and h for a hard link.

// contextSpec is the build context of the recorded cases.
const contextSpec = `
f 0644 0:0 plain x
l 0777 0:0 link plain
l 0777 0:0 dlink d
l 0777 0:0 dangling nowhere
l 0777 0:0 outside ../../../etc/passwd
f 0644 0:0 .dot dot
f 0644 0:0 br[1].txt z
d 0755 0:0 d
f 4755 0:0 d/f1 a
l 0777 0:0 d/sl f1
d 1777 0:0 d/sub
h 4755 0:0 d/sub/hl d/f1
d 0755 0:0 x
l 0777 0:0 x/yl y
d 0755 0:0 x/w
f 0644 0:0 x/w/q.txt 4
d 0700 0:0 x/y
f 0644 0:0 x/y/b.go 2
d 0755 0:0 x/y/z
f 0644 0:0 x/y/z/a.go 1
f 0644 0:0 x/y/z/c.txt 3
l 0777 0:0 xl x
d 0755 0:0 over
d 0711 0:0 over/own
f 0640 0:0 over/own/sublink replaces a link
d 0755 0:0 overdir
d 0755 0:0 overdir/bin
f 0755 0:0 overdir/bin/tool t
d 0755 0:0 overfile
f 0644 0:0 overfile/own a file where a directory is
d 0755 0:0 special
p 0644 0:0 special/fifo
c 0666 0:0 special/null 1,3
`

// baseSpec is the image that the recorded cases copy to.
const baseSpec = `
d 0755 0:0 etc
f 0644 0:0 etc/passwd root:x:0:0:r:/root:/bin/sh\napp:x:1000:1001:a:/home/app:/bin/sh\n
f 0644 0:0 etc/group root:x:0:\nstaff:x:50:\napp:x:1001:\n
d 0755 0:0 usr
d 0755 0:0 usr/bin
l 0777 0:0 bin usr/bin
d 1777 0:0 tmp
d 2775 0:50 srv
d 0700 7:8 own
f 0600 7:8 own/file old
d 0711 9:9 own/sub
l 0777 0:0 own/sublink sub
l 0777 0:0 abslink /usr/bin
l 0777 0:0 dang /nowhere/x
l 0777 0:0 flink /own/file
l 0777 0:0 up ../../../usr
l 0777 0:0 loop loop/x
f 0644 0:0 afile x
f 0755 0:0 capf cap
d 0755 0:0 hard
f 0640 3:4 hard/a linked
h 0640 3:4 hard/b hard/a
`

// archives are unpacked into the base.
func archives() map[string]string {
	const mixed = `
d 0700 3:0 ./
f 4755 5:6 bin/newtool hi
f 0644 0:0 imp/lied/f q
f 0644 0:0 ../../esc e
l 0777 4:0 sym ../../x
f 0644 0:0 dir/x
h 0600 9:0 hard2 bin/newtool
b 0644 0:0 dev/blk 7,2
p 0644 0:0 dev/p
`
	return map[string]string{
		"mixed.tar":   mixed,
		"dirs.tar":    "d 0711 2:0 bin\nf 0644 0:0 bin/t 1\nd 0700 0:0 tmp",
		"types.tar":   "f 0644 0:0 own filenow\nd 0755 0:0 afile\nf 0644 0:0 afile/in 1\nh 0600 7:0 hl etc/passwd",
		"dup.tar":     "f 0644 0:0 dup 1\nf 0644 0:0 z/2 2\nf 0600 0:0 dup 3\nf 0644 0:0 srv/i/j 3\nd 0755 0:0 srv/k",
		"parent.tar":  "f 0644 0:0 f 1\nd 0701 3:0 /\nf 0644 0:0 k",
		"nolink.tar":  "h 0644 0:0 hh nothere",
		"linked.tar":  "l 0777 0:0 l etc\nf 0644 0:0 l/inside 1\nl 0777 0:0 m /own/sub\nf 0644 0:0 m/file 2",
		"reopen.tar":  "d 0755 0:0 own2\nf 0644 0:0 own2/x 1\nf 0644 0:0 own2 2",
		"gz.tgz":      "f 0644 0:0 f1 1",
		"xz.anything": "f 0644 0:0 f2 1",
		"zstd":        "f 0644 0:0 f3 1",
	}
}

// stamp is the time of all files of fixtures.
func stamp() time.Time { return time.Unix(1_000_000_000, 0) }

// made is the time that copies are told to give to what they make.
func made() time.Time { return time.Unix(1_600_000_000, 0) }

// specFile is one line of a spec.
type specFile struct {
	tar.Header
	body string
}

func parseSpec(t testing.TB, spec string) []specFile {
	t.Helper()
	var files []specFile
	for line := range strings.Lines(spec) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		w := strings.SplitN(line, " ", 5)
		w = append(w, "")
		var f specFile
		var err error
		f.Typeflag = map[string]byte{"f": tar.TypeReg, "d": tar.TypeDir, "l": tar.TypeSymlink, "h": tar.TypeLink, "c": tar.TypeChar, "b": tar.TypeBlock, "p": tar.TypeFifo}[w[0]]
		if f.Mode, err = strconv.ParseInt(w[1], 8, 64); err != nil || f.Typeflag == 0 {
			t.Fatalf("bad spec line %q", line)
		}
		if _, err = fmt.Sscanf(w[2], "%d:%d", &f.Uid, &f.Gid); err != nil {
			t.Fatalf("bad spec line %q", line)
		}
		f.Name, f.ModTime = w[3], stamp()
		switch w[0] {
		case "f":
			f.body = strings.ReplaceAll(w[4], `\n`, "\n")
			f.Size = int64(len(f.body))
		case "l", "h":
			f.Linkname = w[4]
		case "c", "b":
			if _, err := fmt.Sscanf(w[4], "%d,%d", &f.Devmajor, &f.Devminor); err != nil {
				t.Fatalf("bad spec line %q", line)
			}
		}
		files = append(files, f)
	}
	return files
}

// tarOf returns the archive of a spec.
func tarOf(t testing.TB, spec string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range parseSpec(t, spec) {
		must(t, w.WriteHeader(&f.Header))
		_, err := io.WriteString(w, f.body)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// compress is for archives named after their compression.
func compress(t testing.TB, name string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch {
	case strings.HasPrefix(name, "gz"):
		w = gzip.NewWriter(&out)
	case strings.HasPrefix(name, "xz"):
		w, err = xz.NewWriter(&out)
	case strings.HasPrefix(name, "zstd"):
		w, err = zstd.NewWriter(&out)
	default:
		return b
	}
	must(t, err)
	_, err = w.Write(b)
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}

// writeContext writes the context of the recorded cases to dir.
func writeContext(t testing.TB, dir string) {
	t.Helper()
	writeSpec(t, dir, contextSpec)
	extra := map[string][]byte{
		"notar.gz":  compress(t, "gz", []byte("hello")),
		"empty.tar": make([]byte, 10240),
		"base.tar":  tarOf(t, baseSpec),
	}
	for name, spec := range archives() {
		extra[name] = compress(t, name, tarOf(t, spec))
	}
	for name, b := range extra {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		must(t, os.Chmod(filepath.Join(dir, name), 0o644))
		must(t, os.Chtimes(filepath.Join(dir, name), stamp(), stamp()))
	}
}

// writeSpec makes the files of a spec on disk.
func writeSpec(t testing.TB, dir, spec string) {
	t.Helper()
	files := parseSpec(t, spec)
	for _, f := range files {
		p := filepath.Join(dir, f.Name)
		switch f.Typeflag {
		case tar.TypeDir:
			must(t, os.MkdirAll(p, 0o755))
		case tar.TypeReg:
			must(t, os.WriteFile(p, []byte(f.body), 0o600))
		case tar.TypeSymlink:
			must(t, os.Symlink(f.Linkname, p))
		case tar.TypeLink:
			must(t, os.Link(filepath.Join(dir, f.Linkname), p))
		case tar.TypeFifo:
			must(t, unix.Mkfifo(p, 0o600))
		case tar.TypeChar:
			must(t, unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(f.Devmajor), uint32(f.Devminor)))))
		}
		must(t, os.Lchown(p, f.Uid, f.Gid))
		if f.Typeflag != tar.TypeSymlink {
			must(t, unix.Chmod(p, uint32(f.Mode)))
		}
	}
	for _, f := range files {
		ts := unix.NsecToTimespec(stamp().UnixNano())
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, f.Name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// specTree returns the tree of a spec, on disk.
func specTree(t testing.TB, spec string) rootfs.Tree {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	writeSpec(t, dir, spec)
	return diskTree(t, dir)
}

func diskTree(t testing.TB, dir string) rootfs.Tree {
	t.Helper()
	tree, err := rootfs.Dir(dir)
	must(t, err)
	return tree
}

// layers returns the tree of the layers that copies make, one over another.
func layers(t testing.TB, copies ...fileop.Copy) *rootfs.LayerTree {
	t.Helper()
	tree, err := rootfs.Of(t.Context(), nil, rootfs.Options{TempDir: t.TempDir()})
	must(t, err)
	for _, c := range copies {
		s, err := c.Select(t.Context())
		must(t, err)
		blob, err := snapshot.Write(t.Context(), s.Changes(t.Context(), tree), snapshot.Options{Compression: snapshot.Uncompressed, Dir: t.TempDir()})
		must(t, err)
		must(t, s.Close())
		if blob == nil {
			continue
		}
		next, err := tree.With(t.Context(), blob)
		must(t, err)
		t.Cleanup(func() { must(t, next.Close()) })
		tree = next
	}
	return tree
}

// instruction parses a COPY or ADD with tree as its source; it knows what the tests need.
func instruction(t testing.TB, line string, tree rootfs.Tree) fileop.Copy {
	t.Helper()
	w := strings.Fields(line)
	c := fileop.Copy{Time: made(), TempDir: t.TempDir()}
	unpack, keep := w[0] == "ADD", false
	w = w[1:]
	for ; strings.HasPrefix(w[0], "--"); w = w[1:] {
		flag, value, _ := strings.Cut(w[0], "=")
		switch flag {
		case "--chown":
			c.Chown = value
		case "--chmod":
			c.Chmod = value
		case "--exclude":
			c.Exclude = append(c.Exclude, value)
		case "--parents":
			c.Parents = true
		case "--link":
			c.Link = true
		case "--unpack":
			unpack = value == "true"
		case "--from":
			keep = true
		default:
			t.Fatalf("unknown flag %q", w[0])
		}
	}
	for _, p := range w[:len(w)-1] {
		c.Sources = append(c.Sources, fileop.Source{Tree: tree, Path: p, KeepOwner: keep, Unpack: unpack})
	}
	c.Dest = w[len(w)-1]
	if c.Dest == "." {
		c.Dest = "/"
	}
	return c
}

// run does c on base and lists the changes.
func run(t testing.TB, c fileop.Copy, base rootfs.Tree) (string, error) {
	t.Helper()
	s, err := c.Select(context.Background())
	if err != nil {
		return "", err
	}
	defer func() { must(t, s.Close()) }()
	return list(t, s.Changes(context.Background(), base))
}

// list returns changes one a line, as record writes the layers of BuildKit, and checks what
// snapshot.Changes demands.
func list(t testing.TB, changes snapshot.Changes) (string, error) {
	t.Helper()
	var b strings.Builder
	last := ""
	for c, err := range changes {
		if err != nil {
			return "", err
		}
		h := c.Header
		if last != "" && rootfs.ComparePaths(last, h.Name) >= 0 {
			t.Errorf("%q comes after %q", h.Name, last)
		}
		last = h.Name
		if c.Kind == snapshot.Opaque {
			b.WriteString("opaque ")
		}
		b.WriteString(line(h))
		if c.Open != nil {
			r, err := c.Open()
			must(t, err)
			n, err := io.Copy(io.Discard, r)
			must(t, err)
			must(t, r.Close())
			if n != h.Size {
				t.Errorf("%s: %d bytes, the header says %d", h.Name, n, h.Size)
			}
		} else if h.Size != 0 {
			t.Errorf("%s: no contents", h.Name)
		}
	}
	return b.String(), nil
}

// line describes a file.
func line(h *tar.Header) string {
	s := fmt.Sprintf("%c %04o %d:%d %d %s", map[byte]byte{
		tar.TypeReg: 'f', tar.TypeDir: 'd', tar.TypeSymlink: 'l', tar.TypeLink: 'h', tar.TypeChar: 'c', tar.TypeBlock: 'b', tar.TypeFifo: 'p',
	}[h.Typeflag], h.Mode, h.Uid, h.Gid, h.Size, strings.TrimSuffix(h.Name, "/"))
	if h.Linkname != "" {
		s += " -> " + h.Linkname
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		s += fmt.Sprintf(" %d,%d", h.Devmajor, h.Devminor)
	}
	return s + "\n"
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
