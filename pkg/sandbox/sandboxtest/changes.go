package sandboxtest

import (
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// changeCase is a script and what it changes in Base, where mounts have left their mark before.
type changeCase struct {
	name, script string
	want         []string
	// or is what a driver may say instead that cannot tell a directory from another one made in its place.
	or []string
	// owners says that the case needs more than one owner.
	owners bool
}

func changeCases() []changeCase {
	return []changeCase{
		{name: "nothing", script: "true"},
		{name: "add", script: "echo -n x > /new", want: []string{`+ f 0644 0:0 new "x"`}},
		{name: "add empty", script: "> /new", want: []string{`+ f 0644 0:0 new ""`}},
		{name: "modify", script: "echo -n x > /d/sub/c", want: []string{
			"+ d 0755 0:0 d", "+ d 0750 0:0 d/sub", `+ f 0640 0:0 d/sub/c "x"`,
		}},
		{name: "delete", script: "rm /d/a", want: []string{"+ d 0755 0:0 d", "- d/a"}},
		{name: "delete directory names only the top", script: "rm -r /d", want: []string{"- d"}},
		{name: "add and delete leaves nothing", script: "echo > /d/x; rm /d/x"},
		{name: "directory time is no change", script: "touch /d /d/sub"},
		{name: "trap 24 replace file", script: "rm /file; echo -n x > /file", want: []string{`+ f 0644 0:0 file "x"`}},
		{name: "trap 23 directory becomes file", script: "rm -r /d; echo -n x > /d", want: []string{`+ f 0644 0:0 d "x"`}},
		{name: "trap 23 file becomes directory", script: "rm /file; mkdir /file; > /file/x", want: []string{
			"+ d 0755 0:0 file", `+ f 0644 0:0 file/x ""`,
		}},
		{name: "trap 23 link becomes directory", script: "rm /link; mkdir /link; > /link/x", want: []string{
			"+ d 0755 0:0 link", `+ f 0644 0:0 link/x ""`,
		}},
		{name: "trap 23 directory becomes link", script: "rm -r /d; ln -s tmp /d", want: []string{"+ l d -> tmp"}},
		{name: "trap 20 directory made anew", script: "rm -r /d; mkdir /d; echo -n x > /d/a", want: []string{
			"! d 0755 0:0 d", `+ f 0644 0:0 d/a "x"`,
		}, or: []string{"+ d 0755 0:0 d", `+ f 0644 0:0 d/a "x"`, "- d/b", "- d/sub"}},
		{name: "trap 5 link alone", script: "ln -s d/a /l", want: []string{"+ l l -> d/a"}},
		{name: "changed link", script: "rm /link; ln -s tmp /link", want: []string{"+ l link -> tmp"}},
		{name: "dangling link", script: "ln -s /nowhere/at/all /l", want: []string{"+ l l -> /nowhere/at/all"}},
		{name: "trap 4 hard links", script: "echo -n x > /y; ln /y /d/z; ln /y /a", want: []string{
			`+ f 0644 0:0 a "x"`, "+ d 0755 0:0 d", "+ h d/z -> a", "+ h y -> a",
		}},
		{name: "trap 6 hard link to old file", script: "ln /file /new", want: []string{`+ f 0644 0:0 new "file\n"`}},
		{name: "trap 9 modes", script: "umask; umask 0; > /new; mkdir /m; chmod 1751 /m", want: []string{
			"+ d 1751 0:0 m", `+ f 0666 0:0 new ""`,
		}},
		{name: "trap 7 setuid", script: "chmod u+s /file; chmod 6711 /d/b; chmod 1777 /d/sub", want: []string{
			"+ d 0755 0:0 d", `+ f 6711 0:0 d/b "b"`, "+ d 1777 0:0 d/sub", `+ f 4644 0:0 file "file\n"`,
		}},
		{name: "chmod", script: "chmod 600 /file; chmod 711 /d", want: []string{
			"+ d 0711 0:0 d", `+ f 0600 0:0 file "file\n"`,
		}},
		{name: "chmod to the same mode", script: "chmod 644 /same; chmod 755 /d; chmod 4755 /setuid"},
		{name: "rewritten with the same time", script: "cp -p /same /x; cat /x > /same; touch -r /x /same; rm /x"},
		{name: "other contents with the same time", script: "cp -p /same /x; echo SAME > /same; touch -r /x /same; rm /x", want: []string{
			`+ f 0644 0:0 same "SAME\n"`,
		}},
		{name: "touch", script: "touch /file", want: []string{`+ f 0644 0:0 file "file\n"`}},
		{name: "trap 26 fifo and socket", script: "mkfifo /p; nc -l -s 127.0.0.1 -p 0 >/dev/null 2>&1 & mkfifo /q", want: []string{
			"+ p 0644 0:0 p", "+ p 0644 0:0 q",
		}},
		{name: "trap 22 file with the name of a whiteout", script: "mkdir /d/x; > /d/x/y; rm -r /d/x"},
		{name: "sparse", script: "truncate -s 64M /big", want: []string{"+ f 0644 0:0 big (67108864)"}},
		{name: "names", script: `> "/a b"; > /a.b; mkdir /a; > /a/b; > "/ü"; > $'/\xff'; > "/nl
x"`, want: []string{
			"+ d 0755 0:0 a", `+ f 0644 0:0 a/b ""`, `+ f 0644 0:0 a b ""`, `+ f 0644 0:0 a.b ""`,
			"+ f 0644 0:0 nl\nx \"\"", `+ f 0644 0:0 ü ""`, "+ f 0644 0:0 \xff \"\"",
		}},
		{name: "chown", owners: true, script: "chown 1000:44 /file; chown 1000 /d", want: []string{
			"+ d 0755 1000:0 d", `+ f 0644 1000:44 file "file\n"`,
		}},
		{name: "rename directory", script: "mv /d/sub /s", want: []string{
			"+ d 0755 0:0 d", "- d/sub", "+ d 0750 0:0 s", `+ f 0640 0:0 s/c "c"`,
		}},
	}
}

func (s *suite) testChanges(t *testing.T) {
	d := s.newDriver(t)
	base := Base(t)
	for _, c := range changeCases() {
		if c.owners && s.o.Unsupervised {
			continue
		}
		s.sub(t, c.name, func(t *testing.T) {
			f := openWith(t, d, base)
			f.commit("true") // mount points for /proc, /dev and /sys
			got := f.change(c.script)
			if !slices.Equal(got, c.want) && (c.or == nil || !slices.Equal(got, c.or)) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if again := f.change("true"); len(again) > 0 {
				t.Errorf("changes came twice:\n%s", strings.Join(again, "\n"))
			}
		})
	}
	s.sub(t, "mount points", s.testMountPoints)
	s.sub(t, "trap 16 times", s.testTimes)
	s.sub(t, "unchanged after commit", s.testLayerChanges)
}

// Mount points for resolv.conf and hosts go with their empty parents, as in BuildKit; the others stay.
func (s *suite) testMountPoints(t *testing.T) {
	d := s.newDriver(t)
	bare := Layer(t, Dir("bin", 0o755), program(t), Symlink("bin/sh", "busybox"), Symlink("bin/rm", "busybox"), Symlink("bin/cat", "busybox"))
	want := []string{"+ d 0755 0:0 dev", "+ d 0755 0:0 proc", "+ d 0755 0:0 sys"}
	f := openWith(t, d, bare)
	if got := f.change("cat /etc/hosts /etc/resolv.conf > /dev/null; rm -f /etc/hosts 2>/dev/null || :; (: > /etc/resolv.conf) 2>/dev/null || :"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	f.commit("true")
	if got := f.change("rm -r /etc 2>/dev/null || :"); len(got) != 0 {
		t.Errorf("second step: got %q, want nothing", got)
	}

	own := Layer(t, Dir("etc", 0o755), File("etc/hosts", 0o600, "own\n"), Symlink("etc/resolv.conf", "../run/resolv.conf"))
	f = openWith(t, d, bare, own)
	if got := f.change("cat /etc/hosts /etc/resolv.conf > /dev/null"); !slices.Equal(got, want) {
		t.Errorf("with files of the image: got %q, want %q", got, want)
	}
}

func (s *suite) testTimes(t *testing.T) {
	f := s.open(t, Base(t))
	f.run(f.sh("touch -d '2001-02-03 04:05:06' /new; chmod 600 /file"))
	want := map[string]time.Time{"new": time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC), "file": then()}
	for c, err := range f.root.Changes(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if w, ok := want[c.Header.Name]; ok && !c.Header.ModTime.Equal(w) {
			t.Errorf("%s: time %v, want %v", c.Header.Name, c.Header.ModTime, w)
		}
		delete(want, c.Header.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// A layer made of changes means the same to whoever opens it.
func (s *suite) testLayerChanges(t *testing.T) {
	d := s.newDriver(t)
	f := openWith(t, d, Base(t))
	layers := []v1.Layer{Base(t)}
	for _, script := range []string{
		"rm -r /d; mkdir /d; echo new > /d/new; ln /d/new /d/other; chmod 4711 /d/other",
		"rm /d/new; mkdir /d/new; echo x > /d/new/x; ln -s /d /e; rm /file",
		"echo y >> /e/new/x; mkfifo /p; chmod 1777 /d",
	} {
		if l := f.commit(script); l != nil {
			layers = append(layers, l)
		}
	}
	const list = "find /d /e /p /bin /etc/passwd /tmp | while read f; do stat -c '%n %a %F' $f; done; cat /d/new/x /d/other"
	want := f.run(f.sh(list))
	for _, driver := range []struct {
		name string
		open *fixture
	}{{"same state", openWith(t, d, layers...)}, {"fresh state", s.open(t, layers...)}} {
		if got := driver.open.run(driver.open.sh(list)); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", driver.name, got, want)
		}
	}
	if _, err := snapshot.Write(t.Context(), f.root.Changes(t.Context()), snapshot.Options{Dir: t.TempDir()}); err != nil {
		t.Error(err)
	}
}
