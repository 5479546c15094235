package fileop_test

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/internal/fileop"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// oneFile is a tree with the file "f".
type oneFile struct {
	rootfs.Tree
	body   []byte
	header *tar.Header // nil: as body asks for
}

func (o oneFile) Lstat(name string) (fs.FileInfo, error) {
	h := o.header
	if h == nil {
		h = &tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: int64(len(o.body))}
	}
	switch name {
	case "f":
		return rootfs.NewFileInfo(&rootfs.Entry{Header: h}), nil
	case ".":
		return rootfs.NewFileInfo(&rootfs.Entry{Header: &tar.Header{Typeflag: tar.TypeDir, Name: "."}}), nil
	}
	return nil, fs.ErrNotExist
}

func (o oneFile) Open(name string) (fs.File, error) {
	return memFile{bytes.NewReader(o.body), o, name}, nil
}

type memFile struct {
	io.Reader
	tree oneFile
	name string
}

func (memFile) Close() error                 { return nil }
func (f memFile) Stat() (fs.FileInfo, error) { return f.tree.Lstat(f.name) }

// FuzzUnpack adds anything as an archive: whatever comes of it, it is a layer, below the destination.
func FuzzUnpack(f *testing.F) {
	for name, spec := range archives() {
		f.Add(compress(f, name, tarOf(f, spec)), "/own")
	}
	f.Add(tarOf(f, "l 0777 0:0 a ../../..\nf 0644 0:0 a/x"), "/own/sublink")
	f.Add(tarOf(f, "l 0777 0:0 b b/b\nf 0644 0:0 b/x"), "/own/sublink")
	base := layers(f, fileop.Copy{Sources: []fileop.Source{{Tree: oneFile{body: tarOf(f, baseSpec)}, Path: "f", Unpack: true}}, Dest: "/"})
	f.Fuzz(func(t *testing.T, archive []byte, dest string) {
		dest = path.Join("/", dest)
		c := fileop.Copy{Sources: []fileop.Source{{Tree: oneFile{body: archive}, Path: "f", Unpack: true}}, Dest: dest, TempDir: t.TempDir()}
		s, err := c.Select(t.Context())
		if err != nil {
			return
		}
		defer func() { must(t, s.Close()) }()
		root, err := rootfs.Resolve(base, dest)
		if err != nil {
			return
		}
		var names []string
		var failed error // of the copy, rather than of the layer
		changes := func(yield func(snapshot.Change, error) bool) {
			for c, err := range s.Changes(t.Context(), base) {
				if failed = err; err == nil {
					names = append(names, c.Header.Name)
				}
				if !yield(c, err) {
					return
				}
			}
		}
		blob, err := snapshot.Write(t.Context(), changes, snapshot.Options{Compression: snapshot.Uncompressed, Dir: t.TempDir()})
		if err != nil {
			if failed == nil {
				t.Errorf("the layer is refused: %v", err)
			}
			return
		}
		for _, name := range names {
			if root != "." && name != root && !strings.HasPrefix(name, root+"/") && !strings.HasPrefix(root, name+"/") {
				t.Errorf("%q is outside of %q", name, root)
			}
		}
		if blob != nil {
			if _, err := base.With(t.Context(), blob); err != nil {
				t.Errorf("the layer cannot be read: %v", err)
			}
		}
	})
}

// FuzzCopy copies with any words.
func FuzzCopy(f *testing.F) {
	dir := f.TempDir()
	writeContext(f, dir)
	tree := diskTree(f, dir)
	base := specTree(f, baseSpec)
	f.Add("x/**/*.go", "/o/", "*.txt", "0:0", "u=rwX", true)
	f.Add("../[a-d]*", "/up/../dang/.", "!x", ":1", "7777", false)
	f.Add("loop", "/loop/loop", "[", "app:staff", "", false)
	f.Fuzz(func(t *testing.T, src, dest, exclude, chown, chmod string, parents bool) {
		c := fileop.Copy{
			Sources: []fileop.Source{{Tree: tree, Path: src, Unpack: true}}, Dest: "/" + dest, Exclude: []string{exclude},
			Chown: chown, Chmod: chmod, Parents: parents, Time: time.Unix(0, 0), TempDir: t.TempDir(),
		}
		s, err := c.Select(t.Context())
		if err != nil {
			return
		}
		defer func() { must(t, s.Close()) }()
		last := ""
		for c, err := range s.Changes(t.Context(), base) {
			if err != nil {
				break
			}
			if name := c.Header.Name; name != rootfs.Clean(name) || name == "." || last != "" && rootfs.ComparePaths(last, name) >= 0 {
				t.Errorf("%q after %q", name, last)
			}
			last = c.Header.Name
		}
	})
}
