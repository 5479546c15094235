package source_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/source"
)

// openContext opens a context that the test closes.
func openContext(t *testing.T, name string, o source.Options) *source.Context {
	t.Helper()
	o.Fetch.TempDir = t.TempDir()
	c, err := source.Open(t.Context(), name, o)
	must(t, err)
	t.Cleanup(func() {
		must(t, c.Close())
		if left, err := os.ReadDir(o.Fetch.TempDir); err != nil || len(left) > 0 {
			t.Errorf("left in the temporary directory: %v, %v", left, err)
		}
	})
	return c
}

// tarOf makes an archive of headers and of the contents that go with them.
func tarOf(t testing.TB, contents map[string]string, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Size = int64(len(contents[h.Name]))
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, contents[h.Name])
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// archived is a context with what a directory cannot hold, too.
func archived(t testing.TB) []byte {
	when := time.Unix(1_500_000_000, 0)
	return tarOf(t, map[string]string{"./Dockerfile": "FROM scratch", "a/b": "contents", ".dockerignore": "a", "sub/Dockerfile": "FROM other"},
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./Dockerfile", Mode: 0o644, ModTime: when},
		tar.Header{Name: ".dockerignore", Mode: 0o644, ModTime: when},
		tar.Header{Name: "a/b", Mode: 0o4751, Uid: 12, Gid: 13, ModTime: when.Add(time.Hour)},
		tar.Header{Name: "a/l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", ModTime: when.Add(2 * time.Hour)},
		tar.Header{Name: "a/h", Typeflag: tar.TypeLink, Linkname: "a/b"},
		tar.Header{Name: "../../up", Mode: 0o644},
		tar.Header{Name: "sub/Dockerfile", Mode: 0o644},
		tar.Header{Name: "sub/" + strings.Repeat("long/", 60) + "x", Mode: 0o644},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/sub"},
	)
}

// compressed runs a program that compresses.
func compressed(t testing.TB, b []byte, program string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "-c")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	must(t, err)
	return out
}

func zstandard(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	must(t, err)
	_, err = w.Write(b)
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}

func TestArchives(t *testing.T) {
	plain := archived(t)
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		return filepath.Join(dir, name)
	}
	served := compressed(t, plain, "gzip")
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(served) })
	for _, tt := range []struct {
		name, context string
		stdin         []byte
	}{
		{"file", file("c.tar", plain), nil},
		{"file with scheme", "tar://" + file("c", plain), nil},
		{"gzip", file("c.tar.gz", served), nil},
		{"bzip2", file("c.tar.bz2", compressed(t, plain, "bzip2")), nil},
		{"xz", file("c.tar.xz", compressed(t, plain, "xz")), nil},
		{"zstd, by another name", file("c.tgz", zstandard(t, plain)), nil},
		{"standard input", "-", plain},
		{"standard input, compressed", "tar://stdin", served},
		{"URL", s.URL + "/x", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := source.Options{}
			if tt.stdin != nil {
				o.Stdin = bytes.NewReader(tt.stdin)
			}
			c := openContext(t, tt.context, o)
			if string(c.Dockerfile) != "FROM scratch" || c.DockerfilePath != "Dockerfile" || len(c.Ignore) != 0 {
				t.Errorf("Dockerfile %q, %q, ignored %q", c.DockerfilePath, c.Dockerfile, c.Ignore)
			}
			got := strings.Join(names(t, c.Tree), " ")
			if want := "a/ a/b a/h a/l link sub/ sub/Dockerfile sub/long/"; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " up") {
				t.Errorf("got %q", got)
			}
			fi, err := c.Tree.Lstat("a/b")
			must(t, err)
			h := rootfs.EntryOf(fi).Header
			if h.Mode != 0o4751 || h.Uid != 12 || h.Gid != 13 || contents(t, c.Tree, "a/b") != "contents" || contents(t, c.Tree, "a/h") != "contents" {
				t.Errorf("%+v", h)
			}
			when, err := c.Time(t.Context())
			must(t, err)
			if when.Unix() != 1_500_003_600 {
				t.Errorf("time %v", when)
			}
		})
	}
}

// TestSubDir: every kind of context has directories.
func TestSubDir(t *testing.T) {
	plain := archived(t)
	s := newGitServer(t)
	repo := s.repository(t, "r")
	commit(t, repo, "Dockerfile", "sub/Dockerfile=FROM other", "sub/x", "sub/d/y")
	local := write(t, "Dockerfile", "sub/Dockerfile=FROM other", "link -> /sub", "file", "above -> /../../../../../../etc")
	for name, tt := range map[string]struct {
		context, sub, want string
		stdin              []byte
	}{
		"directory":                 {context: local, sub: "sub"},
		"directory by a link":       {context: local, sub: "link"},
		"directory by a link above": {context: local, sub: "above", want: `find "above" in it`},
		"directory that is a file":  {context: local, sub: "file", want: "it is no directory"},
		"directory above":           {context: local, sub: "../x", want: "leads out of it"},
		"directory that is missing": {context: local, sub: "none", want: `find "none" in it`},
		"archive":                   {context: "-", sub: "sub", stdin: plain},
		"archive by a link":         {context: "-", sub: "link/.", stdin: plain},
		"archive without it":        {context: "-", sub: "none", stdin: plain, want: "does not exist"},
		"Dockerfile":                {context: "-", sub: "sub", stdin: []byte("FROM scratch"), want: "has no directories"},
		"git":                       {context: s.URL + "/r.git", sub: "sub"},
		"git by fragment":           {context: s.URL + "/r.git#main:sub"},
	} {
		t.Run(name, func(t *testing.T) {
			o := source.Options{SubDir: tt.sub, Stdin: bytes.NewReader(tt.stdin)}
			if tt.want != "" {
				if _, err := source.Open(t.Context(), tt.context, o); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v", err)
				}
				return
			}
			c := openContext(t, tt.context, o)
			if string(c.Dockerfile) != "FROM other" {
				t.Errorf("got %q", c.Dockerfile)
			}
			names(t, c.Tree) // looks at the headers, too
			if _, err := c.Tree.Lstat("sub"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("sub: %v", err)
			}
		})
	}
}

// TestDockerfileAlone: what is no archive is a Dockerfile.
func TestDockerfileAlone(t *testing.T) {
	c := openContext(t, "-", source.Options{Stdin: strings.NewReader("FROM scratch\n")})
	if string(c.Dockerfile) != "FROM scratch\n" || len(names(t, c.Tree)) != 0 {
		t.Errorf("from standard input: %q, %q", c.Dockerfile, names(t, c.Tree))
	}
	body := "FROM scratch\n"
	s := serve(t, file(&body, "Last-Modified", lastModified))
	c = openContext(t, s.URL+"/some?thing", source.Options{})
	if string(c.Dockerfile) != body || c.DockerfilePath != "context" {
		t.Errorf("from a URL: %q, %q", c.DockerfilePath, c.Dockerfile)
	}
	if diff := cmp.Diff([]string{"context"}, names(t, c.Tree)); diff != "" {
		t.Error(diff)
	}
	when, err := c.Time(t.Context())
	if err != nil || when.Unix() != 1546398245 {
		t.Errorf("time %v, %v", when, err)
	}
	// From elsewhere than the context.
	dir := write(t, "x", ".dockerignore=x")
	for _, given := range []string{"-", s.URL + "/Dockerfile"} {
		c = openContext(t, dir, source.Options{Dockerfile: given, Stdin: strings.NewReader(body)})
		if string(c.Dockerfile) != body || len(names(t, c.Tree)) != 0 {
			t.Errorf("%s: %q, %q", given, c.Dockerfile, names(t, c.Tree))
		}
	}
	local := filepath.Join(write(t, "Dockerfile=FROM local"), "Dockerfile")
	c = openContext(t, "-", source.Options{Dockerfile: local, Stdin: bytes.NewReader(archived(t))})
	if string(c.Dockerfile) != "FROM local" {
		t.Errorf("local one for an archive: %q", c.Dockerfile)
	}
}

// TestRemoteDockerfileComesFirst: where the user stands says nothing about a context from elsewhere.
func TestRemoteDockerfileComesFirst(t *testing.T) {
	t.Chdir(write(t, "Dockerfile=FROM here", "only=FROM only", "sub/Dockerfile=FROM here"))
	for given, want := range map[string]string{"": "FROM scratch", "Dockerfile": "FROM scratch", "sub/Dockerfile": "FROM other", "only": "FROM only"} {
		c := openContext(t, "-", source.Options{Dockerfile: given, Stdin: bytes.NewReader(archived(t))})
		if string(c.Dockerfile) != want {
			t.Errorf("%q: %q", given, c.Dockerfile)
		}
	}
}

func TestGitContext(t *testing.T) {
	s := newGitServer(t)
	dir := s.repository(t, "r")
	first := commit(t, dir, "Dockerfile=FROM first", ".dockerignore=*", "Dockerfile.dockerignore=*")
	gitIn(t, dir, "tag", "v1")
	commit(t, dir, "Dockerfile=FROM second")
	asGit := strings.Replace(s.URL, "http://", "git://", 1)
	for _, tt := range []struct {
		context, want string
		o             source.Options
	}{
		{s.URL + "/r.git", "FROM second", source.Options{}},
		{s.URL + "/r.git#v1", "FROM first", source.Options{}},
		{s.URL + "/r.git?tag=v1", "FROM first", source.Options{}},
		{s.URL + "/r.git#" + first, "FROM first", source.Options{}},
		// As Kaniko has it.
		{asGit + "/r.git#refs/tags/v1", "FROM first", source.Options{GitScheme: "http"}},
		{asGit + "/r.git#refs/heads/main#" + first, "FROM first", source.Options{GitScheme: "http"}},
		{asGit + "/r", "FROM second", source.Options{GitScheme: "http"}},
	} {
		c := openContext(t, tt.context, tt.o)
		if string(c.Dockerfile) != tt.want || len(c.Ignore) != 0 {
			t.Errorf("%s: %q, ignored %q", tt.context, c.Dockerfile, c.Ignore)
		}
		when, err := c.Time(t.Context())
		if err != nil || when.Unix() != 1015218367 {
			t.Errorf("%s: time %v, %v", tt.context, when, err)
		}
	}
	for _, keep := range []bool{false, true} {
		c := openContext(t, s.URL+"/r.git", source.Options{KeepGitDir: keep, GitCommitTime: true})
		_, err := c.Tree.Lstat(".git/HEAD")
		if keep != (err == nil) {
			t.Errorf(".git kept: %v; %v", keep, err)
		}
		fi, err := c.Tree.Lstat("Dockerfile")
		must(t, err)
		if fi.ModTime().Unix() != 1015218367 {
			t.Errorf("time of a file: %v", fi.ModTime())
		}
	}
}

// TestLocalComesFirst: a directory may be called like a URL without a scheme.
func TestLocalComesFirst(t *testing.T) {
	t.Chdir(write(t, "github.com/x/y/Dockerfile=FROM local", "git@host:x/Dockerfile=FROM local"))
	for _, name := range []string{"github.com/x/y", "git@host:x"} {
		if c := openContext(t, name, source.Options{}); string(c.Dockerfile) != "FROM local" {
			t.Errorf("%s: %q", name, c.Dockerfile)
		}
	}
}

func TestContextErrors(t *testing.T) {
	plain := archived(t)
	whiteout := tarOf(t, nil, tar.Header{Name: "d/.wh.x"})
	none := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusNotFound) })
	for name, tt := range map[string]struct {
		context, dockerfile, want string
		stdin                     []byte
	}{
		"nothing on standard input":  {context: "-", want: "standard input is empty"},
		"both on standard input":     {context: "-", dockerfile: "-", want: "not both"},
		"archive that is cut":        {context: "-", stdin: plain[:2000], want: "unexpected EOF"},
		"compressed, but no archive": {context: "-", stdin: compressed(t, []byte("FROM scratch"), "gzip"), want: "read archive"},
		"compressed, but cut":        {context: "-", stdin: compressed(t, plain, "xz")[:100], want: "unexpected EOF"},
		"archive without Dockerfile": {context: "-", stdin: tarOf(t, nil, tar.Header{Name: "x"}), want: `there is no "Dockerfile" in the context`},
		"empty archive":              {context: "-", stdin: tarOf(t, nil), want: `there is no "Dockerfile" in the context`},
		"whiteout":                   {context: "-", stdin: whiteout, want: `"d/.wh.x" would delete`},
		"URL that is not there":      {context: none.URL + "/x?token=hush", want: `/x?...": the server answers 404`},
		"Dockerfile is not there":    {context: t.TempDir(), dockerfile: none.URL, want: "read Dockerfile: fetch"},
		"git":                        {context: none.URL + "/x.git", want: "fetch git repository"},
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			o := source.Options{Dockerfile: tt.dockerfile, Stdin: bytes.NewReader(tt.stdin), Fetch: source.Fetch{TempDir: temp}}
			if _, err := source.Open(t.Context(), tt.context, o); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v", err)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// TestStdinIsInterrupted: a build that waits for its input can be ended.
func TestStdinIsInterrupted(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	why := errors.New("the user went home")
	for _, o := range []source.Options{{Stdin: r}, {Stdin: r, Dockerfile: "-"}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		name := "-"
		if o.Dockerfile != "" {
			name = t.TempDir()
		}
		if _, err := source.Open(ctx, name, o); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	}
}

// TestDirectory is for contexts besides the main one.
func TestDirectory(t *testing.T) {
	tree, err := source.Directory(write(t, "a", "b", ".dockerignore=b", "Dockerfile.dockerignore=a"))
	must(t, err)
	if diff := cmp.Diff([]string{"Dockerfile.dockerignore", "a"}, names(t, tree)); diff != "" {
		t.Error(diff)
	}
	if _, err := source.Directory(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := source.Directory(write(t, ".dockerignore=[")); err == nil {
		t.Error("a malformed ignore file")
	}
}
