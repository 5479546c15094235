package snapshot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

func modTime() time.Time { return time.Unix(1700000000, 123456789) }

func add(h tar.Header, body string) snapshot.Change {
	if h.ModTime.IsZero() {
		h.ModTime = modTime()
	}
	h.Size = int64(len(body))
	c := snapshot.Change{Kind: snapshot.Add, Header: &h}
	if body != "" {
		c.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
	}
	return c
}

func file(name, body string) snapshot.Change {
	return add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body)
}

func dir(name string, mode int64) snapshot.Change {
	return add(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, "")
}

func link(name, target string) snapshot.Change {
	return add(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, "")
}

func symlink(name, target string) snapshot.Change {
	return add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "")
}

func gone(name string) snapshot.Change {
	return snapshot.Change{Kind: snapshot.Delete, Header: &tar.Header{Name: name}}
}

func opaque(name string) snapshot.Change {
	c := dir(name, 0o755)
	c.Kind = snapshot.Opaque
	return c
}

func stream(list ...snapshot.Change) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		for _, c := range list {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// oneOfEach is a stream with everything that a layer may hold.
func oneOfEach() []snapshot.Change {
	deep := strings.Repeat("x", 300)
	list := []snapshot.Change{
		dir(".", 0o755),
		file("-dash", "dash"),
		add(tar.Header{Typeflag: tar.TypeBlock, Name: "block", Mode: 0o660, Devmajor: 8, Devminor: 257}, ""),
		add(tar.Header{Typeflag: tar.TypeChar, Name: "char", Mode: 0o666, Devmajor: 1, Devminor: 3}, ""),
		dir("dir", 0o1777),
		gone("dir/gone"),
		opaque("dir/opaque"),
		file("dir/opaque/new", "new"),
		file("dir.d", "after dir"),
		file("empty", ""),
		add(tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o644}, ""),
		link("hard", "dir.d"),
		add(tar.Header{Typeflag: tar.TypeReg, Name: "ids", Mode: 0o600, Uid: 3000000000, Gid: 3000000001}, "big ids"),
		file("large", strings.Repeat("0123456789abcdef", 200<<10)),
		dir("long", 0o755),
		file("long/"+deep, "a component of 300 bytes"),
		file("newline\n\\backslash", "odd"),
		add(tar.Header{Typeflag: tar.TypeReg, Name: "old", Mode: 0o644, ModTime: time.Unix(-5, 500000000)}, "before 1970"),
		add(tar.Header{Typeflag: tar.TypeReg, Name: "setuid", Mode: 0o6755, Uid: 1, Gid: 2, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			"SCHILY.xattr.user.x":              "a=b\n",
			"comment":                          "not an attribute",
		}}, "setuid"),
		symlink("sym", "../\xff"),
		file("\xff\xfe", "not UTF-8"),
	}
	return list
}

func write(t testing.TB, o snapshot.Options, list ...snapshot.Change) *snapshot.Blob {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	b, err := snapshot.Write(t.Context(), stream(list...), o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWrite(t *testing.T) {
	for _, c := range []struct {
		o    snapshot.Options
		want types.MediaType
	}{
		{snapshot.Options{}, types.OCILayer},
		{snapshot.Options{Compression: snapshot.Gzip, Docker: true, Level: 1}, types.DockerLayer},
		{snapshot.Options{Compression: snapshot.Zstd}, types.OCILayerZStd},
		{snapshot.Options{Compression: snapshot.Uncompressed}, types.OCIUncompressedLayer},
		{snapshot.Options{Compression: snapshot.Uncompressed, Docker: true}, types.DockerUncompressedLayer},
	} {
		t.Run(string(c.want), func(t *testing.T) {
			b := write(t, c.o, oneOfEach()...)
			if got, _ := b.MediaType(); got != c.want {
				t.Errorf("media type %v, want %v", got, c.want)
			}
			if c.want == types.OCILayer || c.want == types.DockerLayer { // validate reads nothing else
				if err := validate.Layer(b); err != nil {
					t.Error(err)
				}
			}
			checkTar(t, b, oneOfEach())
			checkIndex(t, b)
		})
	}
}

// checkTar reads b with archive/tar and compares it with changes.
func checkTar(t *testing.T, b *snapshot.Blob, changes []snapshot.Change) {
	t.Helper()
	rc, err := b.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	r := tar.NewReader(rc)
	next := func(want string) *tar.Header {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("at %q: %v", want, err)
		}
		if h.Name != want {
			t.Fatalf("entry %q, want %q", h.Name, want)
		}
		if h.Uname != "" || h.Gname != "" || !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() {
			t.Errorf("header says too much: %+v", h)
		}
		return h
	}
	marker := func(name string) {
		h := next(name)
		if h.Typeflag != tar.TypeReg || h.Size != 0 || h.Mode != 0 || !h.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("marker is %+v", h)
		}
	}
	for _, c := range changes {
		want := c.Header
		if c.Kind == snapshot.Delete {
			marker(filepath.Join(filepath.Dir(want.Name), ".wh."+filepath.Base(want.Name)))
			continue
		}
		name := want.Name
		if want.Typeflag == tar.TypeDir {
			name += "/"
		}
		h := next(name)
		if h.Typeflag != want.Typeflag || h.Mode != want.Mode || h.Uid != want.Uid || h.Gid != want.Gid || h.Linkname != want.Linkname ||
			h.Devmajor != want.Devmajor || h.Devminor != want.Devminor || h.Size != want.Size || !h.ModTime.Equal(want.ModTime) {
			t.Errorf("header\n%+v, want\n%+v", h, want)
		}
		for k, v := range want.PAXRecords {
			if got, ok := h.PAXRecords[k]; ok != strings.HasPrefix(k, "SCHILY.") || (ok && got != v) {
				t.Errorf("%q: %q is %q, want %q", name, k, got, v)
			}
		}
		body, err := io.ReadAll(r)
		if err != nil || int64(len(body)) != want.Size {
			t.Errorf("%q: %d bytes, %v", name, len(body), err)
		}
		if c.Kind == snapshot.Opaque {
			marker(want.Name + "/.wh..wh..opq")
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// checkIndex compares the index that was made while writing with one that is read.
// recordsOf lists the records of x.
func recordsOf(x *rootfs.Index) (list []rootfs.Record) {
	for r := range x.All() {
		list = append(list, *r)
	}
	return list
}

func checkIndex(t *testing.T, b *snapshot.Blob) {
	t.Helper()
	rc, err := b.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	want, err := rootfs.ReadIndex(rc, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.Index.Len() != want.Len() {
		t.Fatalf("index has %d records, want %d", b.Index.Len(), want.Len())
	}
	list := recordsOf(b.Index)
	for i, w := range recordsOf(want) {
		got := list[i]
		if !got.Header.ModTime.Equal(w.Header.ModTime) {
			t.Errorf("modification time %v, want %v", got.Header.ModTime, w.Header.ModTime)
		}
		got.Header.ModTime, w.Header.ModTime = time.Time{}, time.Time{}
		got.Header.Format, w.Header.Format = 0, 0
		if !reflect.DeepEqual(got, w) {
			t.Errorf("record\n%+v, want\n%+v", got, w)
		}
	}
}

// The tools that people have can read what we write.
func TestWriteReadByTools(t *testing.T) {
	b := write(t, snapshot.Options{}, oneOfEach()...)
	ctx := t.Context()
	rc, err := b.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	gunzip := exec.CommandContext(ctx, "gzip", "-t")
	gunzip.Stdin = rc
	if out, err := gunzip.CombinedOutput(); err != nil {
		t.Fatalf("gzip: %v\n%s", err, out)
	}
	root := t.TempDir()
	cmd := exec.CommandContext(ctx, "tar", "-C", root, "-xzpf", b.Path, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=long/*")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	tree, err := rootfs.Dir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range oneOfEach() {
		want := *c.Header
		if c.Kind == snapshot.Delete || strings.HasPrefix(want.Name, "long/") {
			continue
		}
		fi, err := tree.Lstat(want.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		got := rootfs.EntryOf(fi).Header
		if want.Typeflag == tar.TypeLink {
			want.Typeflag, want.Size, want.Linkname = tar.TypeReg, int64(len("after dir")), ""
		}
		if got.Typeflag != want.Typeflag || got.Mode != want.Mode || got.Uid != want.Uid || got.Gid != want.Gid || got.Size != want.Size ||
			got.Linkname != want.Linkname || got.Devmajor != want.Devmajor || got.Devminor != want.Devminor {
			t.Errorf("tar made\n%+v of\n%+v", got, want)
		}
		// Directories have had files put into them.
		if want.Typeflag != tar.TypeDir && !got.ModTime.Equal(want.ModTime) {
			t.Errorf("%q: modification time %v, want %v", want.Name, got.ModTime, want.ModTime)
		}
		for k, v := range want.PAXRecords {
			if strings.HasPrefix(k, rootfs.XattrPrefix) && got.PAXRecords[k] != v {
				t.Errorf("%q: %s = %q, want %q", want.Name, k, got.PAXRecords[k], v)
			}
		}
	}
}

// The same changes give the same bytes with any number of cores.
func TestWriteDeterministic(t *testing.T) {
	for _, compression := range []snapshot.Compression{snapshot.Gzip, snapshot.Zstd} {
		var want []byte
		for _, procs := range []int{1, 8, 3} {
			old := runtime.GOMAXPROCS(procs)
			b := write(t, snapshot.Options{Compression: compression}, oneOfEach()...)
			runtime.GOMAXPROCS(old)
			got, err := os.ReadFile(b.Path)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: other bytes with %d cores", compression, procs)
			}
		}
	}
}

func TestWriteClamp(t *testing.T) {
	clamp := time.Unix(1600000000, 0)
	b := write(t, snapshot.Options{Clamp: clamp}, file("new", "x"), add(tar.Header{Typeflag: tar.TypeReg, Name: "old", ModTime: time.Unix(5, 7)}, ""))
	if got := recordsOf(b.Index)[0].Header.ModTime; !got.Equal(clamp) {
		t.Errorf("new file: %v", got)
	}
	if got := recordsOf(b.Index)[1].Header.ModTime; !got.Equal(time.Unix(5, 7)) {
		t.Errorf("old file: %v", got)
	}
	if !b.Clamped {
		t.Error("the layer does not say that its times are others")
	}
	if b := write(t, snapshot.Options{Clamp: time.Unix(1e10, 0)}, file("new", "x")); b.Clamped {
		t.Error("the layer says that its times are others")
	}
}

func TestWriteNothing(t *testing.T) {
	d := t.TempDir()
	if b := write(t, snapshot.Options{Dir: d}); b != nil {
		t.Errorf("Write = %v", b)
	}
	empty(t, d)
}

// empty tests that nothing was left in d.
func empty(t *testing.T, d string) {
	t.Helper()
	list, err := os.ReadDir(d)
	if err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

// Traps 4, 22, 24, 26: what engines refuse or misread is refused here, with the path.
func TestWriteRefuses(t *testing.T) {
	for name, list := range map[string][]snapshot.Change{
		"duplicate":             {file("bad", ""), file("bad", "")},
		"add and delete":        {file("bad", ""), gone("bad")},
		"order":                 {file("c", ""), file("bad", "")},
		"order of components":   {file("bad.x", ""), dir("bad", 0), file("bad", "")},
		"absolute":              {file("/bad", "")},
		"dot dot":               {file("../bad", "")},
		"unclean":               {file("a/./bad", "")},
		"trailing slash":        {dir("bad/", 0o755)},
		"empty name":            {file("", "")},
		"nul":                   {file("bad\x00", "")},
		"whiteout name":         {file(".wh.bad", "")},
		"below a whiteout name": {file("a/.wh.x/bad", "")},
		"opaque marker":         {file("bad/.wh..wh..opq", "")},
		"link to nothing":       {link("bad", "a")},
		"link to later":         {link("bad", "c"), file("c", "")},
		"link to itself":        {link("bad", "bad")},
		"link to directory":     {dir("a", 0o755), link("bad", "a")},
		"link to deleted":       {gone("a"), link("bad", "a")},
		"absolute link":         {file("a", ""), link("bad", "/a")},
		"below a file":          {file("a", ""), file("a/bad", "")},
		"below a deleted":       {gone("a"), file("a/bad", "")},
		"opaque file":           {{Kind: snapshot.Opaque, Header: file("bad", "").Header}},
		"delete root":           {gone(".")},
		"root file":             {file(".", "")},
		"socket":                {add(tar.Header{Typeflag: 's', Name: "bad"}, "")},
		"empty target":          {symlink("bad", "")},
		"no contents":           {{Kind: snapshot.Add, Header: &tar.Header{Typeflag: tar.TypeReg, Name: "bad", Size: 1}}},
		"negative size":         {{Kind: snapshot.Add, Header: &tar.Header{Typeflag: tar.TypeReg, Name: "bad", Size: -1}}},
		"attribute with =":      {add(tar.Header{Typeflag: tar.TypeReg, Name: "bad", PAXRecords: map[string]string{"SCHILY.xattr.user.a=b": "x"}}, "")},
		"kind":                  {{Kind: 9, Header: &tar.Header{Name: "bad"}}},
		"no header":             {{}},
	} {
		t.Run(name, func(t *testing.T) {
			d := t.TempDir()
			b, err := snapshot.Write(t.Context(), stream(list...), snapshot.Options{Dir: d})
			if err == nil || b != nil {
				t.Fatalf("Write = %v, %v", b, err)
			}
			if name := list[len(list)-1].Header; name != nil && !strings.Contains(err.Error(), "bad") && name.Name != "" && name.Name != "." && list[0].Header.Name != "." {
				t.Errorf("the error does not name the path: %v", err)
			}
			empty(t, d)
		})
	}
	for name, o := range map[string]snapshot.Options{
		"docker zstd": {Compression: snapshot.Zstd, Docker: true},
		"compression": {Compression: "lzma"},
		"gzip level":  {Level: 10},
		"zstd level":  {Compression: snapshot.Zstd, Level: 99},
	} {
		o.Dir = t.TempDir()
		if _, err := snapshot.Write(t.Context(), stream(file("a", "")), o); err == nil {
			t.Errorf("%s: no error", name)
		}
		empty(t, o.Dir)
	}
}

// Trap 27: of a file that grows the rest is left out; one that shrinks is an error that names it.
func TestWriteFileChanges(t *testing.T) {
	grown := file("grown", "0123456789")
	grown.Header.Size = 4
	b := write(t, snapshot.Options{}, grown)
	checkTar(t, b, []snapshot.Change{grown})
	if recordsOf(b.Index)[0].Digest != sha256.Sum256([]byte("0123")) {
		t.Error("wrong digest")
	}
	short := file("short", "0123456789")
	short.Header.Size = 4 << 20
	d := t.TempDir()
	_, err := snapshot.Write(t.Context(), stream(short), snapshot.Options{Dir: d})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), `"short"`) {
		t.Errorf("Write = %v", err)
	}
	empty(t, d)
}

func TestWriteErrors(t *testing.T) {
	boom := errors.New("boom")
	unopenable := file("f", "x")
	unopenable.Open = func() (io.ReadCloser, error) { return nil, boom }
	for name, changes := range map[string]snapshot.Changes{
		"open": stream(unopenable),
		"stream": func(yield func(snapshot.Change, error) bool) {
			_ = yield(file("a", "x"), nil) && yield(snapshot.Change{}, boom)
		},
	} {
		d := t.TempDir()
		if _, err := snapshot.Write(t.Context(), changes, snapshot.Options{Dir: d}); !errors.Is(err, boom) {
			t.Errorf("%s: %v", name, err)
		}
		empty(t, d)
	}
	// A full disk.
	if _, err := snapshot.Write(t.Context(), stream(file("a", "x")), snapshot.Options{Dir: "/nonexistent"}); err == nil {
		t.Error("no error for a missing directory")
	}
}

// endless is a reader of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }
func (endless) Close() error               { return nil }

func TestWriteCanceled(t *testing.T) {
	why := errors.New("stage b failed")
	ctx, cancel := context.WithCancelCause(t.Context())
	huge := snapshot.Change{Kind: snapshot.Add, Header: &tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: 1 << 50}}
	huge.Open = func() (io.ReadCloser, error) {
		time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		return endless{}, nil
	}
	d := t.TempDir()
	start := time.Now()
	_, err := snapshot.Write(ctx, stream(huge), snapshot.Options{Dir: d})
	if !errors.Is(err, why) {
		t.Errorf("Write = %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	empty(t, d)
}
