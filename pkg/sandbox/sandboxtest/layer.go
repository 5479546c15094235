package sandboxtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// busybox is the program of which test roots are made: Debian's busybox-static.
const busybox = "/bin/busybox"

// then is the time of all files in test layers.
func then() time.Time { return time.Unix(1_600_000_000, 123_456_789) }

// Layer returns a layer of entries. The contents of regular files are in the PAX record "body", which does not
// become part of the layer.
func Layer(t testing.TB, entries ...tar.Header) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range entries {
		body := h.PAXRecords["body"]
		delete(h.PAXRecords, "body")
		h.Size = int64(len(body))
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.ModTime.IsZero() {
			h.ModTime = then()
		}
		h.Format = tar.FormatPAX
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatalf("write header of %q: %v", h.Name, err)
		}
		if _, err := io.WriteString(tw, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithCompressionLevel(gzip.NoCompression))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Dir is a directory that belongs to root, as the entries below do.
func Dir(name string, mode int64) tar.Header {
	return tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode}
}

// File is a regular file.
func File(name string, mode int64, body string) tar.Header {
	return tar.Header{Name: name, Mode: mode, PAXRecords: map[string]string{"body": body}}
}

// Symlink is a symbolic link.
func Symlink(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}
}

// Link is a hard link.
func Link(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644}
}

// Whiteout removes what lower layers have at that path, which has the prefix already.
func Whiteout(name string) tar.Header { return tar.Header{Name: name, Mode: 0o644} }

// Owned gives an entry an owner.
func Owned(h tar.Header, uid, gid int) tar.Header {
	h.Uid, h.Gid = uid, gid
	return h
}

// whole gives an entry a time without a fraction, which more programs can copy.
func whole(h tar.Header) tar.Header {
	h.ModTime = then().Truncate(time.Second)
	return h
}

// readBusybox reads the program once: while a step runs, the driver may have put it aside.
var readBusybox = sync.OnceValues(func() ([]byte, error) { return os.ReadFile(busybox) }) //nolint:gochecknoglobals // see above

// program is the file of all commands.
func program(t testing.TB) tar.Header {
	t.Helper()
	body, err := readBusybox()
	if err != nil {
		t.Fatalf("test roots need busybox-static: %v", err)
	}
	return File("bin/busybox", 0o755, string(body))
}

// Base is a layer with a shell, its commands, users, and some files to change.
func Base(t testing.TB) v1.Layer {
	t.Helper()
	entries := []tar.Header{Dir("bin", 0o755), program(t)}
	for _, name := range []string{
		"sh", "cat", "chmod", "chown", "cp", "dd", "echo", "env", "grep", "hostname", "id", "kill", "ln", "ls", "mkdir", "mkfifo",
		"mknod", "mount", "mv", "nc", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "setsid", "sleep", "stat", "test", "touch",
		"true", "false", "truncate", "wc", "find", "head", "seq", "awk", "ip", "nohup",
		"logger", "sort", "umount", "uniq",
	} {
		entries = append(entries, Symlink("bin/"+name, "busybox"))
	}
	entries = append(entries,
		Dir("etc", 0o755),
		File("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"),
		File("etc/group", 0o644, "root:x:0:\napp:x:1000:\nwheel:x:10:root,app\nvideo:x:44:app\n"),
		Dir("root", 0o700),
		Dir("tmp", 0o1777),
		Dir("d", 0o755), File("d/a", 0o644, "a"), File("d/b", 0o644, "b"),
		Dir("d/sub", 0o750), File("d/sub/c", 0o640, "c"),
		File("file", 0o644, "file\n"), whole(File("same", 0o644, "same\n")),
		File("h1", 0o644, "linked\n"), Link("h2", "h1"),
		Symlink("link", "d"),
		File("setuid", 0o4755, "s"),
	)
	return Layer(t, entries...)
}
