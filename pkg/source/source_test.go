package source_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// write makes files in a new directory: "name" is an empty file, "name/" a directory, "name -> target" a link,
// "name=contents" a file.
func write(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name, target, link := strings.Cut(f, " -> ")
		if link {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
			must(t, os.Symlink(target, filepath.Join(dir, name)))
			continue
		}
		name, body, _ := strings.Cut(f, "=")
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600))
	}
	return dir
}

// names lists everything in a tree, but the Dockerfile and the ignore file.
func names(t testing.TB, tree rootfs.Tree) []string {
	t.Helper()
	var all []string
	must(t, rootfs.Walk(tree, ".", func(name string, e *rootfs.Entry) error {
		if name == "." || name == "Dockerfile" || name == ".dockerignore" {
			return nil
		}
		if e.Header.Name != name {
			t.Errorf("the header of %q says %q", name, e.Header.Name)
		}
		fi, err := tree.Lstat(name)
		if err != nil {
			t.Errorf("Lstat of what Walk found: %v", err)
		} else if fi.IsDir() {
			name += "/"
		}
		all = append(all, name)
		return nil
	}))
	return all
}

// TestIgnore holds trap 38.
func TestIgnore(t *testing.T) {
	files := []string{
		"Dockerfile=FROM scratch", "a.txt", "b.md", "dir/a.txt", "dir/b.md", "dir/sub/a.txt", "dir/sub/c.go", "other/x.go", "README.md", "empty/",
	}
	all := []string{"README.md", "a.txt", "b.md", "dir/", "dir/a.txt", "dir/b.md", "dir/sub/", "dir/sub/a.txt", "dir/sub/c.go", "empty/", "other/", "other/x.go"}
	without := func(gone ...string) []string {
		var left []string
	next:
		for _, n := range all {
			for _, g := range gone {
				if n == g || strings.HasSuffix(g, "/") && strings.HasPrefix(n, g) {
					continue next
				}
			}
			left = append(left, n)
		}
		return left
	}
	for _, tt := range []struct {
		name, ignore string
		want         []string
	}{
		{"no patterns", "\n# only a comment\n", all},
		{"plain file", "a.txt", without("a.txt")},
		{"leading slash", "/a.txt", without("a.txt")},
		{"a name is not searched for below", "c.go", all},
		{"any depth", "**/a.txt", without("a.txt", "dir/a.txt", "dir/sub/a.txt")},
		{"one level", "*/*.md", without("dir/b.md")},
		{"directory hides what is in it", "dir", without("dir/")},
		{"directory with slash", "dir/", without("dir/")},
		{"contents of a directory", "dir/*", without("dir/a.txt", "dir/b.md", "dir/sub/")},
		{"contents of a directory, any depth", "dir/**", without("dir/a.txt", "dir/b.md", "dir/sub/")},
		{"last match wins", "*.md\n!README.md", without("b.md")},
		{"last match wins, the other way", "!README.md\n*.md", without("b.md", "README.md")},
		{"exception in an ignored directory", "dir\n!dir/sub/c.go", without("dir/a.txt", "dir/b.md", "dir/sub/a.txt")},
		{"exception for a directory in an ignored one", "dir\n!dir/sub", without("dir/a.txt", "dir/b.md")},
		{"exception by pattern", "dir\n!**/*.go", without("dir/a.txt", "dir/b.md", "dir/sub/a.txt")},
		{"exception that nothing matches", "dir\n!dir/none", without("dir/")},
		{"everything but", "*\n!other", []string{"other/", "other/x.go"}},
		{"everything, any depth, but", "**\n!dir/sub/*.go", []string{"dir/", "dir/sub/", "dir/sub/c.go"}},
		{"exception, taken back", "dir\n!dir/sub\ndir/sub/a.txt", without("dir/a.txt", "dir/b.md", "dir/sub/a.txt")},
		{"byte order mark", "\xef\xbb\xbfa.txt", without("a.txt")},
		{"spaces around, dots, crlf", "  ./dir/../a.txt  \r\n! README.md\r\n", without("a.txt")},
		{"comment sign that is not first", " #x\n*.md", without("README.md", "b.md")},
		{"question mark and class", "[a-b].???", without("a.txt")},
		{"the root is never ignored", ".", all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, append(files, ".dockerignore="+tt.ignore)...)
			c, err := source.Open(t.Context(), dir, source.Options{})
			must(t, err)
			if diff := cmp.Diff(tt.want, names(t, c.Tree)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// TestIgnoredIsNotThere asks for ignored files by name.
func TestIgnoredIsNotThere(t *testing.T) {
	dir := write(t, "Dockerfile", "secret/key=1", "secret/link -> key", "secret/open=2", "ok=3", ".dockerignore=secret\n!secret/open\n")
	c, err := source.Open(t.Context(), dir, source.Options{})
	must(t, err)
	for _, name := range []string{"secret/key", "secret/link", "secret/none"} {
		if _, err := c.Tree.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lstat(%q): %v", name, err)
		}
		if _, err := c.Tree.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q): %v", name, err)
		}
		if _, err := c.Tree.ReadLink(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadLink(%q): %v", name, err)
		}
		if _, err := c.Tree.ReadDir(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadDir(%q): %v", name, err)
		}
	}
	if _, err := c.Tree.Lstat("secret/open"); err != nil {
		t.Error(err)
	}
}

// TestIgnoredDirectoryIsNotRead: node_modules is not walked because there is an exception elsewhere.
func TestIgnoredDirectoryIsNotRead(t *testing.T) {
	dir := write(t, "Dockerfile", "keep", "node_modules/x", ".dockerignore=node_modules\n!keep/**\n")
	c, err := source.Open(t.Context(), dir, source.Options{})
	must(t, err)
	calls := 0
	tree := source.WrapForTest(c, func(name string) {
		if name == "node_modules" {
			calls++
		}
	})
	names(t, tree)
	if calls != 0 {
		t.Errorf("an ignored directory without exceptions in it was read %d times", calls)
	}
}

// TestMalformedIgnore: an invalid pattern names file and line.
func TestMalformedIgnore(t *testing.T) {
	for _, tt := range []struct {
		file, body string
		line       int
	}{
		{".dockerignore", "a\n# c\n\n[b\nc", 4},
		{".dockerignore", "a\n!", 2},
		{".dockerignore", "a\n![", 2},
		{".dockerignore", "a\n\n![[:foo:]]", 3}, // found only when it is used
		{".dockerignore", "\xef\xbb\xbf[]a]", 1},
		{"Dockerfile.dockerignore", "a\\", 1},
		{".dockerignore", "a\r\n  [z-a]  \r\n", 2},
	} {
		dir := write(t, "Dockerfile", tt.file+"="+tt.body)
		_, err := source.Open(t.Context(), dir, source.Options{})
		var bad *source.IgnoreError
		if !errors.As(err, &bad) || bad.Line != tt.line || bad.File != tt.file {
			t.Errorf("%q: %v", tt.body, err)
		}
	}
}

// TestOwnersOfContext holds traps 11 and 56: nothing of the checkout's owner or attributes is seen, all of the mode.
func TestOwnersOfContext(t *testing.T) {
	dir := write(t, "Dockerfile", "f=x", "d/")
	must(t, os.Lchown(filepath.Join(dir, "f"), 1234, 2345))
	must(t, unix.Chmod(filepath.Join(dir, "f"), 0o4751))
	must(t, unix.Chmod(filepath.Join(dir, "d"), 0o1777))
	if err := unix.Setxattr(filepath.Join(dir, "f"), "user.x", []byte("y"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	c, err := source.Open(t.Context(), dir, source.Options{})
	must(t, err)
	fi, err := c.Tree.Lstat("f")
	must(t, err)
	h := rootfs.EntryOf(fi).Header
	if h.Uid != 0 || h.Gid != 0 || h.Mode != 0o4751 || len(h.PAXRecords) != 0 {
		t.Errorf("%+v", h)
	}
	list, err := c.Tree.ReadDir(".")
	must(t, err)
	for _, d := range list {
		fi, err := d.Info()
		must(t, err)
		h := rootfs.EntryOf(fi).Header
		if h.Uid != 0 || h.Gid != 0 || len(h.PAXRecords) != 0 {
			t.Errorf("%+v", h)
		}
		if d.Name() == "d" && h.Mode != 0o1777 {
			t.Errorf("mode of d: %o", h.Mode)
		}
	}
}

// TestDockerfile finds the Dockerfile and its ignore file.
func TestDockerfile(t *testing.T) {
	for _, tt := range []struct {
		name    string
		files   []string
		given   string
		want    string
		path    string
		ignored []string
	}{
		{"default", []string{"Dockerfile=1", "dockerfile=2"}, "", "1", "Dockerfile", nil},
		{"lower case", []string{"dockerfile=2"}, "", "2", "dockerfile", nil},
		{"in the context", []string{"a/b.Dockerfile=3", ".dockerignore=x"}, "a/b.Dockerfile", "3", "a/b.Dockerfile", []string{"x"}},
		{"lower case in a directory", []string{"a/dockerfile=3"}, "a/Dockerfile", "3", "a/dockerfile", nil},
		{"own ignore file", []string{"a/b=3", ".dockerignore=x", "a/b.dockerignore=y"}, "a/b", "3", "a/b", []string{"y"}},
		{"own ignore file, empty", []string{"Dockerfile=1", ".dockerignore=x", "Dockerfile.dockerignore="}, "", "1", "Dockerfile", nil},
		{"ignored", []string{"Dockerfile=1", ".dockerignore=*"}, "", "1", "Dockerfile", []string{"*"}},
		{"link", []string{"build/D=4", "Dockerfile -> /build/D"}, "", "4", "Dockerfile", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := source.Open(t.Context(), write(t, tt.files...), source.Options{Dockerfile: tt.given})
			must(t, err)
			if string(c.Dockerfile) != tt.want || c.DockerfilePath != tt.path {
				t.Errorf("got %q from %q", c.Dockerfile, c.DockerfilePath)
			}
			if diff := cmp.Diff(tt.ignored, c.Ignore); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDockerfileElsewhere gives paths of this system, which come before those in the context.
func TestDockerfileElsewhere(t *testing.T) {
	dir, other := write(t, "Dockerfile=context", "x.Dockerfile=context"), write(t, "x.Dockerfile=other", "x.Dockerfile.dockerignore=z")
	c, err := source.Open(t.Context(), "dir://"+dir, source.Options{Dockerfile: filepath.Join(other, "x.Dockerfile")})
	must(t, err)
	if string(c.Dockerfile) != "other" || len(c.Ignore) != 1 {
		t.Errorf("got %q, ignore %q", c.Dockerfile, c.Ignore)
	}
	t.Chdir(other)
	for name, want := range map[string]string{"x.Dockerfile": "other", "Dockerfile": "context"} {
		c, err := source.Open(t.Context(), dir, source.Options{Dockerfile: name})
		must(t, err)
		if string(c.Dockerfile) != want {
			t.Errorf("%s: got %q", name, c.Dockerfile)
		}
	}
}

// TestOpenErrors reads what people will read.
func TestOpenErrors(t *testing.T) {
	file := filepath.Join(write(t, "file"), "file")
	escape := write(t, "Dockerfile -> ../../../../../../../../../../etc/passwd")
	fifo := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(fifo, "Dockerfile"), 0o600))
	for _, tt := range []struct {
		context, dockerfile, want string
		notExist                  bool
	}{
		{"", "", "no directory given", false},
		{"-", "", "there is no standard input", false},
		{"s3://u:hush@example.com/x.tar", "", `open context "s3://xxxxx@example.com/x.tar": s3 contexts are not supported`, false},
		{"https://example.com/x.git?what=ever", "", "unexpected query", false},
		{"/no/such/dir", "", `open context "/no/such/dir": there is no such directory`, true},
		{file, "", "a file and no tar archive", false},
		{fifo + "/Dockerfile", "", "neither a directory nor a regular file", false},
		{"tar://" + fifo, "", "neither a directory nor a regular file", false},
		{t.TempDir(), "", `there is no "Dockerfile" in`, true},
		{t.TempDir(), "D", `there is no "D" in`, true},
		{write(t, "Dockerfile/"), "", "not a regular file", false},
		{write(t, "Dockerfile"), "-", "there is no standard input", false},
		{write(t, "Dockerfile"), "Dockerfile/x", `there is no "Dockerfile/x"`, true},
		{escape, "", "which is not in the context", true},
		{escape, filepath.Join(escape, "Dockerfile"), "which is not in the context", true},
		{fifo, "", "not a regular file", false},
		{t.TempDir(), filepath.Join(fifo, "Dockerfile"), "not a regular file", false},
		{write(t, "Dockerfile", ".dockerignore/"), "", "not a regular file", false},
	} {
		_, err := source.Open(t.Context(), tt.context, source.Options{Dockerfile: tt.dockerfile})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("context %q, dockerfile %q: %v", tt.context, tt.dockerfile, err)
		}
		if errors.Is(err, fs.ErrNotExist) != tt.notExist {
			t.Errorf("context %q: is it missing? %v", tt.context, err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
