package casefile

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func read(t *testing.T, text string) (*Case, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "some-trap.txtar")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(file)
}

func TestLay(t *testing.T) {
	c, err := read(t, `# what it is about
build-arg "A=b c"
chmod 4711 sub/f
mtime 2001-01-01T00:00:00.5Z sub/f
write "odd\nname" "to {{base}}"
symlink ../x sub/link
link sub/f hard
mkfifo 0600 fifo
tar gzip a.tgz aside/tree
-- Dockerfile --
FROM {{base}}
-- sub/f --
data
-- aside/tree/in --
in
`)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"A=b c"}; !slices.Equal(c.BuildArgs, want) {
		t.Errorf("build args %q, want %q", c.BuildArgs, want)
	}
	d, err := c.Lay(t.TempDir(), map[string]string{"base": "host/image"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Dockerfile": "FROM host/image\n", "odd\nname": "to host/image", "hard": "data\n"} {
		if got, err := os.ReadFile(d.Path(name)); err != nil || string(got) != want {
			t.Errorf("%q holds %q, %v; want %q", name, got, err, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(d.Path("hard"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode&0o7777 != 0o4711 || st.Nlink != 2 {
		t.Errorf("mode %o with %d links, want 4711 with 2", st.Mode&0o7777, st.Nlink)
	}
	for name, want := range map[string]time.Time{"sub/f": time.Date(2001, 1, 1, 0, 0, 0, 5e8, time.UTC), "sub": epoch()} {
		fi, err := os.Lstat(d.Path(name))
		if err != nil {
			t.Fatal(err)
		}
		if !fi.ModTime().Equal(want) {
			t.Errorf("%s bears %v, want %v", name, fi.ModTime(), want)
		}
	}
	if _, err := os.Lstat(filepath.Join(d.Context, "aside")); err == nil {
		t.Error("what belongs beside the context is in it")
	}
}

func TestWhatIsBesideTheContext(t *testing.T) {
	c, err := read(t, `secret a env "x y"
secret b file aside/b
ssh default
build-context n docker-image://{{base}}
option add-hosts h=1.2.3.4
allow-entitlement network.host
http f aside/f etag=1 last-modified=2001-01-01T02:00:00+02:00
redirect g {{http}}/f
git r commit aside/r
git r submodule m other
oci-layout aside/l base
-- Dockerfile --
`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lay(t.TempDir(), map[string]string{"base": "host/image", "http": "http://here"}); err != nil {
		t.Fatal(err)
	}
	wantGrants := Grants{
		EnvSecrets: []Named{{"a", "x y"}}, FileSecrets: []Named{{"b", "aside/b"}},
		Agents: []string{"default"}, Entitlements: []string{"network.host"},
	}
	if !reflect.DeepEqual(c.Grants, wantGrants) {
		t.Errorf("grants %v, want %v", c.Grants, wantGrants)
	}
	if want := []Named{{"n", "docker-image://host/image"}}; !slices.Equal(c.Contexts, want) {
		t.Errorf("named contexts %v, want %v", c.Contexts, want)
	}
	wantFiles := []WebFile{
		{Name: "f", Path: "aside/f", Headers: []Named{{"ETag", `"1"`}, {"Last-Modified", "Mon, 01 Jan 2001 00:00:00 GMT"}}},
		{Name: "g", Redirect: "http://here/f"},
	}
	if !reflect.DeepEqual(c.Files, wantFiles) {
		t.Errorf("files %v, want %v", c.Files, wantFiles)
	}
	wantCommits := []GitStep{{"r", "commit", []string{"aside/r"}}, {"r", "submodule", []string{"m", "other"}}}
	if !reflect.DeepEqual(c.Commits, wantCommits) {
		t.Errorf("commits %v, want %v", c.Commits, wantCommits)
	}
	if want := []Layout{{"aside/l", "base"}}; !slices.Equal(c.Layouts, want) {
		t.Errorf("layouts %v, want %v", c.Layouts, want)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, line := range []string{"nonsense x", "chmod 0644", "fail \"\"", "allow entry (", "write x \"open",
		"secret id vault x", "http f f colour=red", "http f f last-modified=noon", "git r commit", "git r rebase x", "git r submodule x", "ssh"} {
		if _, err := read(t, line+"\n-- Dockerfile --\n"); err == nil || !strings.Contains(err.Error(), "some-trap.txtar:1: ") {
			t.Errorf("%q gives %v, want an error with its line", line, err)
		}
	}
}

func TestExcused(t *testing.T) {
	c, err := read(t, "allow one ^/a:\nallow two never\n-- Dockerfile --\n")
	if err != nil {
		t.Fatal(err)
	}
	left := c.Excused([]string{"/a: mode", "/b: mode"})
	if want := []string{"/b: mode", `allow "two" "never" covers no difference`}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
	if want := []string{"one", "two"}; !slices.Equal(c.Entries(), want) {
		t.Errorf("entries %q, want %q", c.Entries(), want)
	}
}
