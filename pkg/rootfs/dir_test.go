package rootfs_test

import (
	"archive/tar"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/rootfs/rootfstest"
)

func TestDir(t *testing.T) {
	rootfstest.Run(t, func(t *testing.T, files []rootfstest.File) rootfs.Tree {
		return openDir(t, extract(t, files))
	})
}

func TestDirOldKernel(t *testing.T) {
	rootfstest.Run(t, func(t *testing.T, files []rootfstest.File) rootfs.Tree {
		return rootfs.OldKernel(openDir(t, extract(t, files)))
	})
}

func TestDirWithoutProc(t *testing.T) {
	rootfstest.Run(t, func(t *testing.T, files []rootfstest.File) rootfs.Tree {
		return rootfs.WithoutProc(openDir(t, extract(t, files)))
	})
}

func openDir(t *testing.T, path string) rootfs.Tree {
	t.Helper()
	tree, err := rootfs.Dir(path)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// extract puts files on disk.
func extract(t *testing.T, files []rootfstest.File) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range files {
		h, path := f.Header, filepath.Join(root, f.Header.Name)
		var err error
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.Mkdir(path, 0o700)
		case tar.TypeReg:
			err = os.WriteFile(path, []byte(f.Body), 0o600)
		case tar.TypeLink:
			err = os.Link(filepath.Join(root, h.Linkname), path)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		case tar.TypeFifo:
			err = unix.Mkfifo(path, 0o600)
		case tar.TypeChar:
			err = unix.Mknod(path, unix.S_IFCHR, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
		case tar.TypeBlock:
			err = unix.Mknod(path, unix.S_IFBLK, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
		}
		if err == nil && h.Typeflag != tar.TypeLink {
			err = os.Lchown(path, h.Uid, h.Gid)
		}
		if err == nil && h.Typeflag != tar.TypeLink && h.Typeflag != tar.TypeSymlink {
			err = unix.Chmod(path, uint32(h.Mode))
		}
		for k, v := range h.PAXRecords {
			if err == nil {
				err = unix.Lsetxattr(path, strings.TrimPrefix(k, rootfs.XattrPrefix), []byte(v), 0)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range slices.Backward(files) { // directories after what is in them
		ts := unix.NsecToTimespec(f.Header.ModTime.UnixNano())
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, f.Header.Name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// Trap 26: sockets are left out.
func TestDirSockets(t *testing.T) {
	root := t.TempDir()
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(root, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tree := openDir(t, root)
	if list, err := tree.ReadDir("."); err != nil || len(list) != 0 {
		t.Errorf("ReadDir = %v, %v", list, err)
	}
	if _, err := tree.Lstat("s"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Lstat: %v", err)
	}
}

// Trap 26: to open a fifo may wait for ever, to open a device may set it off.
func TestDirNeverOpensFifos(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, filepath.Join(root, "fifo"), unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	if _, err := openDir(t, root).Open("fifo"); err == nil {
		t.Error("Open worked")
	}
	var event [256]byte
	if n, err := unix.Read(watch, event[:]); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the fifo was opened: %d, %v", n, err)
	}
}

// Trap 15: reading leaves access times alone.
func TestDirAccessTime(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "f")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	old := unix.Timespec{Sec: 1000}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{old, old}, 0); err != nil {
		t.Fatal(err)
	}
	f, err := openDir(t, root).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadAll(f); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Atim != old {
		t.Errorf("access time is %v, %v", st.Atim, err)
	}
}

// Trap 27: a file that changes while it is read delivers what it had, or an error.
func TestDirFileChanges(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "f")
	for _, c := range []struct {
		size int64
		want error
	}{{5, io.ErrUnexpectedEOF}, {20, nil}} {
		if err := os.WriteFile(path, []byte("0123456789"), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := openDir(t, root).Open("f")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, c.size); err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		f.Close()
		if !errors.Is(err, c.want) || (c.want == nil && string(data) != "0123456789") {
			t.Errorf("truncated to %d: read %q, %v", c.size, data, err)
		}
	}
}

// Trap 80: links lead nowhere, not even those that are put there later.
func TestDirEscape(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "root")
	if err := os.MkdirAll(filepath.Join(root, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "secret"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tree := openDir(t, root)
	if err := os.Remove(filepath.Join(root, "d")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(root, "d")); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Lstat("d/secret"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Lstat: %v", err)
	}
	if _, err := tree.Open("d/secret"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
}

func TestDirNotADirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + "2"} {
		if _, err := rootfs.Dir(p); err == nil {
			t.Errorf("Dir(%q) worked", p)
		}
	}
}
