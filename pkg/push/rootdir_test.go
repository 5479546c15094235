package push_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// image makes an image of one uncompressed layer for each list of headers. A regular file contains its name.
func image(t *testing.T, layers ...[]tar.Header) v1.Image {
	t.Helper()
	img := empty.Image
	for _, headers := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			if h.Typeflag == 0 {
				h.Typeflag = tar.TypeReg
				h.Size = int64(len(h.Name))
			}
			if h.Mode == 0 {
				h.Mode = 0o755
			}
			if h.ModTime.IsZero() {
				h.ModTime = time.Unix(1e9, 5e8)
			}
			h.Format = tar.FormatPAX
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				fmt.Fprint(w, h.Name)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(b.Bytes(), types.OCIUncompressedLayer)); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func toDir(t *testing.T, dir string, img v1.Image) error {
	t.Helper()
	_, err := push.RootDir(dir, rootfs.Options{TempDir: t.TempDir()}).Export(t.Context(), push.Artifact{Image: img})
	return err
}

// everything has one of each kind of file.
func everything() []tar.Header {
	return []tar.Header{
		{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o2750, Uid: 7, Gid: 8},
		{Name: "dir/closed/", Typeflag: tar.TypeDir, Mode: 0o555},
		{Name: "dir/closed/file", Mode: 0o400, Uid: 1000},
		{Name: "setuid", Mode: 0o4755, Uid: 5, PAXRecords: map[string]string{"SCHILY.xattr.user.color": "red"}},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "setuid", Mode: 0o4755, Uid: 5},
		{Name: "dir/hard", Typeflag: tar.TypeLink, Linkname: "setuid", Mode: 0o4755, Uid: 5},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o622},
		{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
	}
}

func TestRootDirIsLikeTheImage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	img := image(t, everything())
	// A second export meets closed directories.
	for range 2 {
		if err := toDir(t, dir, img); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"dir":             "drwxr-s--- 1000000000.5",
			"dir/closed":      "dr-xr-xr-x 1000000000.5",
			"dir/closed/file": "-r-------- 1000000000.5",
			"setuid":          "-rwsr-xr-x 1000000000.5",
			"link":            "lrwxrwxrwx 1000000000.5",
			"fifo":            "prw--w--w- 1000000000.5",
			"null":            "crw-rw-rw- 1000000000.5",
			"tmp":             "drwxrwxrwt 1000000000.5",
		} {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
				t.Fatal(name, err)
			}
			if got := fmt.Sprintf("%s %d.%d", modeString(st.Mode), st.Mtim.Sec, st.Mtim.Nsec/1e8); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
			if int(st.Uid) != os.Getuid() || int(st.Gid) != os.Getgid() {
				t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
			}
		}
		a, _ := os.Stat(filepath.Join(dir, "setuid"))
		for _, name := range []string{"hard", "dir/hard"} {
			if b, err := os.Stat(filepath.Join(dir, name)); err != nil || !os.SameFile(a, b) {
				t.Errorf("%s is no other name of setuid: %v", name, err)
			}
		}
		if b, err := os.ReadFile(filepath.Join(dir, "dir/closed/file")); err != nil || string(b) != "dir/closed/file" {
			t.Errorf("contents %q, %v", b, err)
		}
		attr := make([]byte, 10)
		if n, err := unix.Lgetxattr(filepath.Join(dir, "setuid"), "user.color", attr); err == nil && string(attr[:n]) != "red" || err != nil && err != unix.ENOTSUP {
			t.Errorf("attribute %q, %v", attr, err)
		}
		noTemps(t, dir)
	}
}

// modeString is the mode as ls has it.
func modeString(mode uint32) string {
	m := fs.FileMode(mode & 0o777)
	kind := map[uint32]byte{syscall.S_IFDIR: 'd', syscall.S_IFREG: '-', syscall.S_IFLNK: 'l', syscall.S_IFIFO: 'p', syscall.S_IFCHR: 'c'}[mode&syscall.S_IFMT]
	s := []byte(m.String())
	s[0] = kind
	for bit, at := range map[uint32]int{syscall.S_ISUID: 3, syscall.S_ISGID: 6} {
		if mode&bit != 0 {
			s[at] = 's'
		}
	}
	if mode&syscall.S_ISVTX != 0 {
		s[9] = 't'
	}
	return string(s)
}

// TestTrap80RootDirStaysInside: neither links of the image nor links that were there lead out.
func TestTrap80RootDirStaysInside(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		img  v1.Image
		make func(dir string) error
	}{
		"link to a directory in the image": {img: image(t,
			[]tar.Header{{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: outside}},
			[]tar.Header{{Name: "lib/victim"}})},
		"dots": {img: image(t, []tar.Header{{Name: "../../../../../../../.." + victim}})},
		"directory is a link on disk": {
			img:  image(t, []tar.Header{{Name: "lib/", Typeflag: tar.TypeDir}, {Name: "lib/victim"}}),
			make: func(dir string) error { return os.Symlink(outside, filepath.Join(dir, "lib")) },
		},
		"file is a link on disk": {
			img:  image(t, []tar.Header{{Name: "file"}}),
			make: func(dir string) error { return os.Symlink(victim, filepath.Join(dir, "file")) },
		},
		"file is another name of a file outside": {
			img:  image(t, []tar.Header{{Name: "file"}}),
			make: func(dir string) error { return os.Link(victim, filepath.Join(dir, "file")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.make != nil {
				if err := tc.make(dir); err != nil {
					t.Fatal(err)
				}
			}
			if err := toDir(t, dir, tc.img); err != nil {
				t.Log(err) // as long as nothing happens outside
			}
			if b, err := os.ReadFile(victim); err != nil || string(b) != "untouched" {
				t.Errorf("the file outside is %q, %v", b, err)
			}
			if list, _ := os.ReadDir(outside); len(list) != 1 {
				t.Errorf("outside is now %v", list)
			}
		})
	}
}

// TestRootDirMergesByType: what is there gives way where the image has something else, and stays where it has nothing.
func TestRootDirMergesByType(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, []byte("old"), 0o600)
	}
	for _, name := range []string{"own/file", "becomes-file/deep/file", "becomes-dir", "becomes-link/x", "same"} {
		if err := write(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("own", filepath.Join(dir, "link-becomes-dir")); err != nil {
		t.Fatal(err)
	}
	err := toDir(t, dir, image(t, []tar.Header{
		{Name: "link-becomes-dir/", Typeflag: tar.TypeDir},
		{Name: "link-becomes-dir/file"},
		{Name: "becomes-file"},
		{Name: "becomes-dir/", Typeflag: tar.TypeDir},
		{Name: "becomes-dir/file"},
		{Name: "becomes-link", Typeflag: tar.TypeSymlink, Linkname: "same"},
		{Name: "same"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"own/file": "old", "link-becomes-dir/file": "link-becomes-dir/file", "becomes-file": "becomes-file", "becomes-dir/file": "becomes-dir/file", "becomes-link": "same", "same": "same",
	} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v; want %q", name, b, err, want)
		}
	}
}

// TestRootDirAsOrdinaryUser needs no rights, and refuses only what the kernel refuses.
func TestRootDirAsOrdinaryUser(t *testing.T) {
	if os.Getuid() == 0 {
		// The test binary again, as nobody, in a directory that nobody may write to.
		asNobody(t, "TestRootDirAsOrdinaryUser")
		return
	}
	dir := filepath.Join(t.TempDir(), "out")
	t.Cleanup(func() {
		for _, d := range []string{"dir/closed", "shut", "shut/sub"} {
			_ = os.Chmod(filepath.Join(dir, d), 0o700)
		}
	})
	img := image(t, everything()[:7], []tar.Header{
		{Name: "shut/", Typeflag: tar.TypeDir, Mode: 0o200},
		{Name: "shut/sub/", Typeflag: tar.TypeDir, Mode: 0o100},
		{Name: "shut/sub/file"},
	})
	for range 2 {
		if err := toDir(t, dir, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := toDir(t, dir, image(t, everything()[8:9])); err == nil || !strings.Contains(err.Error(), "null") {
		t.Errorf("making a device: %v", err)
	}
}

func TestRootTarIsLikeBuildKits(t *testing.T) {
	var b bytes.Buffer
	img := image(t, everything(), []tar.Header{{Name: "dir/.wh.hard"}, {Name: "zz"}})
	if _, err := push.RootTarTo(&b, rootfs.Options{TempDir: t.TempDir()}).Export(t.Context(), push.Artifact{Image: img}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %s %s %o %d:%d %d %d,%d %s", h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid, h.ModTime.UnixMilli(), h.Devmajor, h.Devminor, h.PAXRecords["SCHILY.xattr.user.color"]))
	}
	want := []string{
		"5 dir/  2750 7:8 1000000001000 0,0 ",
		"5 dir/closed/  555 0:0 1000000001000 0,0 ",
		"0 dir/closed/file  400 1000:0 1000000001000 0,0 ",
		"6 fifo  622 0:0 1000000001000 0,0 ",
		"0 hard  4755 5:0 1000000001000 0,0 red",
		"2 link /etc/passwd 777 0:0 1000000001000 0,0 ",
		"3 null  666 0:0 1000000001000 1,3 ",
		"1 setuid hard 4755 5:0 1000000001000 0,0 red",
		"5 tmp/  1777 0:0 1000000001000 0,0 ",
		"0 zz  755 0:0 1000000001000 0,0 ",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}
