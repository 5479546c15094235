// Package rootfstest holds what every [rootfs.Tree] has to do, as tests.
package rootfstest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// File is one file of the tree to be made.
type File struct {
	// Header has a clean relative name. A hard link names a file that came before.
	Header tar.Header
	Body   string
}

// mtime has nanoseconds, which trees keep.
func mtime() time.Time { return time.Unix(1700000000, 123456789) }

// Files returns the tree that [Run] asks for, parents first.
func Files() []File {
	xattr := map[string]string{rootfs.XattrPrefix + "user.binary": "a\x00\xff=\n"}
	files := []File{
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "dir", Mode: 0o1777, Uid: 1, Gid: 2}},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "dir/file", Mode: 0o4755, Uid: 3, Gid: 4, PAXRecords: xattr}, Body: "contents"},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "dir/empty", Mode: 0}},
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "dir/sub", Mode: 0o2750}},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "dir/sub/z", Mode: 0o600}, Body: "z"},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "dir/sub.d", Mode: 0o600}, Body: "sorts before what is in sub by bytes, after it by components"},
		{Header: tar.Header{Typeflag: tar.TypeLink, Name: "dir/sub/hard", Linkname: "dir/file"}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "dir/file", Mode: 0o777}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "dirlink", Linkname: "dir", Mode: 0o777}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "dangling", Linkname: "/no/\xff/such", Mode: 0o777}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "abs", Linkname: "/dir/sub", Mode: 0o777}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "up", Linkname: "../../../../dir", Mode: 0o777}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "loop", Linkname: "loop/x", Mode: 0o777}},
		{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o644}},
		{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o660, Devmajor: 8, Devminor: 257}},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "-odd\n\xff\\ name", Mode: 0o644}, Body: "odd"},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644}, Body: string(bytes.Repeat([]byte("0123456789abcdef"), 64<<10))},
	}
	for i := range files {
		files[i].Header.ModTime = mtime()
		files[i].Header.Size = int64(len(files[i].Body))
	}
	return files
}

// Run tests trees. newTree makes a tree of files, which are those of [Files]; making it needs the
// right to make devices and to change owners.
func Run(t *testing.T, newTree func(t *testing.T, files []File) rootfs.Tree) {
	t.Helper()
	tree := newTree(t, Files())
	for name, test := range map[string]func(*testing.T, rootfs.Tree){
		"Entries":    testEntries,
		"Contents":   testContents,
		"NotRegular": testNotRegular,
		"Missing":    testMissing,
		"Invalid":    testInvalid,
		"ReadDir":    testReadDir,
		"ReadLink":   testReadLink,
		"HardLinks":  testHardLinks,
		"Resolve":    testResolve,
		"Walk":       testWalk,
		"Concurrent": testConcurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, tree) })
	}
}

func testEntries(t *testing.T, tree rootfs.Tree) {
	for _, f := range Files() {
		want := f.Header
		if want.Typeflag == tar.TypeLink {
			continue
		}
		fi, err := tree.Lstat(want.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		e := rootfs.EntryOf(fi)
		if e == nil {
			t.Fatalf("%q: no entry behind the FileInfo", want.Name)
		}
		got := e.Header
		if got.Name != want.Name || got.Typeflag != want.Typeflag || got.Mode != want.Mode || got.Uid != want.Uid || got.Gid != want.Gid ||
			got.Size != want.Size || got.Devmajor != want.Devmajor || got.Devminor != want.Devminor || !got.ModTime.Equal(want.ModTime) {
			t.Errorf("header is\n%+v, want\n%+v", got, want)
		}
		if want.Typeflag == tar.TypeSymlink && got.Linkname != want.Linkname {
			t.Errorf("%q: link to %q, want %q", want.Name, got.Linkname, want.Linkname)
		}
		if !maps.Equal(got.PAXRecords, want.PAXRecords) {
			t.Errorf("%q: PAX records %q, want %q", want.Name, got.PAXRecords, want.PAXRecords)
		}
		if m := rootfs.FileMode(&want); fi.Mode() != m {
			t.Errorf("%q: mode %v, want %v", want.Name, fi.Mode(), m)
		}
		if fi.IsDir() != (want.Typeflag == tar.TypeDir) || fi.Size() != want.Size || !fi.ModTime().Equal(mtime()) {
			t.Errorf("FileInfo is %v", fi)
		}
	}
	if fi, err := fs.Stat(tree, "."); err != nil || !fi.IsDir() || fi.Name() != "." || rootfs.EntryOf(fi).Header.Name != "." {
		t.Errorf("the root is %v, %v", fi, err)
	}
	// Stat does not follow either.
	if fi, err := fs.Stat(tree, "link"); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("Stat(link) = %v, %v", fi, err)
	}
}

func testContents(t *testing.T, tree rootfs.Tree) {
	// Not in the order of the layer, to make a tree go back.
	files := Files()
	slices.Reverse(files)
	for _, f := range files {
		if f.Header.Typeflag != tar.TypeReg {
			continue
		}
		if got := read(t, tree, f.Header.Name); got != f.Body {
			t.Errorf("%q: read %d bytes, want %d", f.Header.Name, len(got), len(f.Body))
		}
	}
	if got := read(t, tree, "dir/sub/hard"); got != "contents" {
		t.Errorf("hard link: read %q", got)
	}
}

func read(t *testing.T, tree rootfs.Tree, name string) string {
	t.Helper()
	f, err := tree.Open(name)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	if fi, err := f.Stat(); err != nil || rootfs.EntryOf(fi) == nil || rootfs.EntryOf(fi).Header.Name != name {
		t.Errorf("Stat of the open file %q: %v, %v", name, fi, err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func testNotRegular(t *testing.T, tree rootfs.Tree) {
	for _, name := range []string{".", "dir", "link", "dirlink", "fifo", "null", "disk"} {
		if f, err := tree.Open(name); err == nil {
			f.Close()
			t.Errorf("Open(%q) worked", name)
		}
	}
}

func testMissing(t *testing.T, tree rootfs.Tree) {
	for _, name := range []string{"no", "dir/no", "no/no", "dirlink/file", "dir/file/x", "abs/z", "dir/sub/z/.x", "fifo/x"} {
		check := func(op string, err error) {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s(%q): %v", op, name, err)
			}
		}
		_, err := tree.Lstat(name)
		check("Lstat", err)
		_, err = fs.Stat(tree, name)
		check("Stat", err)
		_, err = tree.Open(name)
		check("Open", err)
		_, err = tree.ReadDir(name)
		check("ReadDir", err)
		_, err = tree.ReadLink(name)
		check("ReadLink", err)
	}
	for _, name := range []string{"dir/file", "link", "dirlink", "fifo"} {
		if _, err := tree.ReadDir(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadDir(%q): %v", name, err)
		}
	}
}

func testInvalid(t *testing.T, tree rootfs.Tree) {
	for _, name := range []string{"", "/", "/dir", "dir/", "./dir", "dir/.", "dir/../dir", "..", "../x", "dir//file", "dir\x00"} {
		if _, err := tree.Lstat(name); err == nil {
			t.Errorf("Lstat(%q) worked", name)
		}
		if _, err := tree.Open(name); err == nil {
			t.Errorf("Open(%q) worked", name)
		}
		if _, err := tree.ReadDir(name); err == nil {
			t.Errorf("ReadDir(%q) worked", name)
		}
	}
}

func testReadDir(t *testing.T, tree rootfs.Tree) {
	for dir, want := range map[string][]string{
		".":       {"-odd\n\xff\\ name", "abs", "big", "dangling", "dir", "dirlink", "disk", "fifo", "link", "loop", "null", "up"},
		"dir":     {"empty", "file", "sub", "sub.d"},
		"dir/sub": {"hard", "z"},
	} {
		list, err := tree.ReadDir(dir)
		if err != nil {
			t.Error(err)
			continue
		}
		var names []string
		for _, d := range list {
			names = append(names, d.Name())
			fi, err := d.Info()
			if err != nil || rootfs.EntryOf(fi) == nil || fi.Name() != d.Name() || fi.Mode().Type() != d.Type() || fi.IsDir() != d.IsDir() {
				t.Errorf("entry %v has info %v, %v", d, fi, err)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("ReadDir(%q) = %q, want %q", dir, names, want)
		}
	}
}

func testReadLink(t *testing.T, tree rootfs.Tree) {
	if got, err := tree.ReadLink("dangling"); err != nil || got != "/no/\xff/such" {
		t.Errorf("ReadLink(dangling) = %q, %v", got, err)
	}
	for _, name := range []string{"dir", "dir/file", "."} {
		if _, err := tree.ReadLink(name); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("ReadLink(%q): %v", name, err)
		}
	}
}

func testHardLinks(t *testing.T, tree rootfs.Tree) {
	entry := func(name string) *rootfs.Entry {
		fi, err := tree.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		return rootfs.EntryOf(fi)
	}
	a, b := entry("dir/file"), entry("dir/sub/hard")
	if a.Inode == 0 || a.Inode != b.Inode {
		t.Errorf("inodes %d and %d", a.Inode, b.Inode)
	}
	if b.Header.Typeflag != tar.TypeReg || b.Header.Name != "dir/sub/hard" || b.Header.Mode != 0o4755 || b.Header.Size != 8 || len(b.Header.PAXRecords) != 1 || b.Header.Linkname != "" {
		t.Errorf("the link's header is %+v", b.Header)
	}
	if n := entry("big").Inode; n != 0 {
		t.Errorf("a file of one name has inode %d", n)
	}
	if n := entry("dir").Inode; n != 0 {
		t.Errorf("a directory has inode %d", n)
	}
}

func testResolve(t *testing.T, tree rootfs.Tree) {
	for _, c := range []struct{ name, full, parent string }{
		{"", ".", "."},
		{"/", ".", "."},
		{"..", ".", "."},
		{"/../..//dir/./file", "dir/file", "dir/file"},
		{"link", "dir/file", "link"},
		{"dirlink/", "dir", "dirlink"},
		{"dirlink/.", "dir", "dir"},
		{"dirlink/file", "dir/file", "dir/file"},
		{"abs/z", "dir/sub/z", "dir/sub/z"},
		{"abs/../file", "dir/file", "dir/file"},
		{"dirlink/..", ".", "."},
		{"up/sub", "dir/sub", "dir/sub"},
		{"dangling", "no/\xff/such", "dangling"},
		{"dangling/x", "no/\xff/such/x", "no/\xff/such/x"},
		{"new/file", "new/file", "new/file"},
		{"dirlink/new/../../dir/x", "dir/x", "dir/x"},
		{"new/../link", "dir/file", "link"},
	} {
		if got, err := rootfs.Resolve(tree, c.name); err != nil || got != c.full {
			t.Errorf("Resolve(%q) = %q, %v; want %q", c.name, got, err, c.full)
		}
		if got, err := rootfs.ResolveParent(tree, c.name); err != nil || got != c.parent {
			t.Errorf("ResolveParent(%q) = %q, %v; want %q", c.name, got, err, c.parent)
		}
	}
	for name, want := range map[string]error{"loop": syscall.ELOOP, "loop/y": syscall.ELOOP, "dir/file/x": syscall.ENOTDIR, "link/x": syscall.ENOTDIR, "fifo/..": syscall.ENOTDIR} {
		if got, err := rootfs.Resolve(tree, name); !errors.Is(err, want) {
			t.Errorf("Resolve(%q) = %q, %v; want %v", name, got, err, want)
		}
	}
	if got, err := rootfs.ResolveParent(tree, "loop"); err != nil || got != "loop" {
		t.Errorf("ResolveParent(loop) = %q, %v", got, err)
	}
}

func testWalk(t *testing.T, tree rootfs.Tree) {
	var names []string
	err := rootfs.Walk(tree, ".", func(name string, e *rootfs.Entry) error {
		if e.Header.Name != name {
			t.Errorf("the entry of %q is that of %q", name, e.Header.Name)
		}
		names = append(names, name)
		if name == "dir/empty" {
			return fs.SkipDir // of a file: skips nothing
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(Files()) + 1; len(names) != want {
		t.Errorf("visited %d files, want %d: %q", len(names), want, names)
	}
	if !slices.IsSortedFunc(names, rootfs.ComparePaths) {
		t.Errorf("not in order: %q", names)
	}
	names = nil
	err = rootfs.Walk(tree, "dir", func(name string, _ *rootfs.Entry) error {
		names = append(names, name)
		if name == "dir/sub" {
			return fs.SkipDir
		}
		return nil
	})
	if want := []string{"dir", "dir/empty", "dir/file", "dir/sub", "dir/sub.d"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("visited %q, %v; want %q", names, err, want)
	}
	stop := errors.New("stop")
	if err := rootfs.Walk(tree, ".", func(string, *rootfs.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Walk = %v", err)
	}
}

func testConcurrent(t *testing.T, tree rootfs.Tree) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			files := Files()
			if i%2 == 0 {
				slices.Reverse(files)
			}
			for _, f := range files {
				if f.Header.Typeflag == tar.TypeReg && read(t, tree, f.Header.Name) != f.Body {
					t.Errorf("%q: wrong contents", f.Header.Name)
				}
			}
		})
	}
	wg.Wait()
}
