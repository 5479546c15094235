package sandboxtest

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ownerCase is a script, the user who runs it, and what it changes in ownedBase.
type ownerCase struct {
	name, user, script string
	want               []string
}

// ownedBase are the layers of a root in which there are files of several users.
func ownedBase(t testing.TB) []v1.Layer {
	return []v1.Layer{Base(t), Layer(t,
		Dir("home", 0o755), Owned(Dir("home/app", 0o755), 1000, 1000), Owned(File("home/app/f", 0o644, "f"), 1000, 1000),
		Owned(Dir("shared", 0o2775), 0, 44), Owned(File("x", 0o644, "x"), 7, 8), Owned(Symlink("l", "nowhere"), 7, 8),
	)}
}

func ownerCases() []ownerCase {
	return []ownerCase{
		{name: "file and group", script: "chown 1000:44 /file; busybox chgrp 7 /d/a", want: []string{
			"+ d 0755 0:0 d", `+ f 0644 0:7 d/a "a"`, `+ f 0644 1000:44 file "file\n"`,
		}},
		{name: "one id at a time", script: "chown 1000 /file; busybox chgrp 44 /file; chown 1001 /file", want: []string{
			`+ f 0644 1001:44 file "file\n"`,
		}},
		{name: "recursively", script: "chown -R 5:6 /d", want: []string{
			"+ d 0755 5:6 d", `+ f 0644 5:6 d/a "a"`, `+ f 0644 5:6 d/b "b"`, "+ d 0750 5:6 d/sub", `+ f 0640 5:6 d/sub/c "c"`,
		}},
		{name: "link itself", script: "chown -h 9:10 /link; ln -s x /new; chown -h 11:12 /new", want: []string{
			"+ l link -> d 9:10", "+ l new -> x 11:12",
		}},
		{name: "what a link leads to", script: "chown 9 /link", want: []string{"+ d 0755 9:0 d"}},
		{name: "fifo", script: "mkfifo /p; chown 9:10 /p", want: []string{"+ p 0644 9:10 p"}},
		{name: "clears setuid", script: "chown 1000 /setuid", want: []string{`+ f 0755 1000:0 setuid "s"`}},
		{name: "to whom it belongs", script: "chown 7:8 /x; chown 0:0 /file /d"},
		{name: "to root", script: "chown 0:0 /x /home/app; chown -h 0:0 /l", want: []string{
			"+ d 0755 0:0 home", "+ d 0755 0:0 home/app", "+ l l -> nowhere", `+ f 0644 0:0 x "x"`,
		}},
		{name: "goes with the file", script: "chown 9 /file; mv /file /d/moved; mv /x /y; ln -s x /a; chown -h 9 /a; mv /a /b", want: []string{
			"+ l b -> x 9:0", "+ d 0755 0:0 d", `+ f 0644 9:0 d/moved "file\n"`, "- file", "- x", `+ f 0644 7:8 y "x"`,
		}},
		{name: "dies with the file", script: `chown 9 /file; rm /file; echo -n x > /file; mkdir /m; chown 9 /m; rmdir /m; mkdir /m
for i in 1 2 3 4 5 6 7 8; do ln -s x /a; chown -h 9 /a; rm /a; sleep 0.02; ln -s y /a; [ $i = 8 ] || rm /a; done`, want: []string{
			"+ l a -> y", `+ f 0644 0:0 file "x"`, "+ d 0755 0:0 m",
		}},
		{name: "replaced", script: "rm /x; echo -n new > /x", want: []string{`+ f 0644 0:0 x "new"`}},
		{name: "written to", script: "echo -n y >> /x; chmod 600 /home/app/f", want: []string{
			"+ d 0755 0:0 home", "+ d 0755 1000:1000 home/app", `+ f 0600 1000:1000 home/app/f "f"`, `+ f 0644 7:8 x "xy"`,
		}},
		{name: "hard link", script: "ln /x /z; chown 9 /z", want: []string{`+ f 0644 9:8 x "x"`, "+ h z -> x"}},
		{name: "copied", script: "cp -p /x /y; busybox tar cf /t /home/app && cd /d && busybox tar xf /t; rm /t", want: []string{
			"+ d 0755 0:0 d", "+ d 0755 0:0 d/home", "+ d 0755 1000:1000 d/home/app", `+ f 0644 1000:1000 d/home/app/f "f"`, `+ f 0644 7:8 y "x"`,
		}},
		{name: "made by another user", user: "app", script: `cd /home/app; > made; umask 027; mkdir dir; echo -n x > dir/file; mkfifo p; ln -s x s
echo -n y >> made; > /dev/null; cat dir/file > copy`, want: []string{
			"+ d 0755 0:0 home", "+ d 0755 1000:1000 home/app", `+ f 0640 1000:1000 home/app/copy "x"`,
			"+ d 0750 1000:1000 home/app/dir", `+ f 0640 1000:1000 home/app/dir/file "x"`, `+ f 0644 1000:1000 home/app/made "y"`,
			"+ p 0640 1000:1000 home/app/p", "+ l home/app/s -> x 1000:1000",
		}},
		{name: "standard output by its name", user: "app", script: "echo x > /dev/stdout"},
		{name: "made in a directory that hands its group down", user: "app", script: "mkdir /shared/d; > /shared/d/f", want: []string{
			"+ d 2775 0:44 shared", "+ d 2755 1000:44 shared/d", `+ f 0644 1000:44 shared/d/f ""`,
		}},
		{name: "made by who became another user", script: `busybox su app -c "mkdir /home/app/d; > /home/app/d/f; cd /home/app/d; (> g); ! chown 0 f" 2>/dev/null; > /home/app/root`, want: []string{
			"+ d 0755 0:0 home", "+ d 0755 1000:1000 home/app", "+ d 0755 1000:1000 home/app/d", `+ f 0644 1000:1000 home/app/d/f ""`,
			`+ f 0644 1000:1000 home/app/d/g ""`, `+ f 0644 0:0 home/app/root ""`,
		}},
		{name: "given to a group of one's own", user: "app", script: `cd /home/app; > made; busybox chgrp 44 made; ! busybox chgrp 45 made 2>/dev/null
! chown 0 made 2>/dev/null; ! chown 1000 /file 2>/dev/null; chown 1000 made`, want: []string{
			"+ d 0755 0:0 home", "+ d 0755 1000:1000 home/app", `+ f 0644 1000:44 home/app/made ""`,
		}},
	}
}

// testOwners holds that steps give files to others, and become others, whatever ids the machine has.
func (s *suite) testOwners(t *testing.T) {
	d := s.newDriver(t)
	base := ownedBase(t)
	for _, c := range ownerCases() {
		s.sub(t, c.name, func(t *testing.T) {
			f := openWith(t, d, base...)
			f.commit("true")
			p := f.sh(c.script)
			p.User = c.user
			f.run(p)
			got := owned(t, f)
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
	s.sub(t, "in sight", s.testOwnersInSight)
	s.sub(t, "open files by their names", func(t *testing.T) {
		f := s.open(t, base...)
		if got := f.run(f.sh("stat -L -c %u /proc/self/fd/0 < /x; chown 6 /proc/self/fd/0 < /d/b; stat -c %u /d/b")); got != "7\n6\n" {
			t.Errorf("got %q", got)
		}
	})
	s.sub(t, "ids", s.testIDs)
	s.sub(t, "in another root", s.testOwnersElsewhere)
}

// owned is what has changed, with the owners of links.
func owned(t testing.TB, f *fixture) []string {
	t.Helper()
	var out []string
	for c, err := range f.root.Changes(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		text := line(t, c)
		if c.Header.Typeflag == tar.TypeSymlink && c.Header.Uid+c.Header.Gid > 0 {
			text += fmt.Sprintf(" %d:%d", c.Header.Uid, c.Header.Gid)
		}
		out = append(out, text)
	}
	f.root.Commit(nil)
	return out
}

// testOwnersInSight holds that a step sees the owners that it has given.
func (s *suite) testOwnersInSight(t *testing.T) {
	f := s.open(t, ownedBase(t)...)
	for _, c := range [][2]string{
		{"chown 3:4 /file; stat -c %u:%g /file; cd /; stat -c %u:%g file ./d/../file", "3:4\n3:4\n3:4\n"},
		{"chown 3 /d/sub; cd /d/sub; stat -c %u . ; stat -c %u ../sub/.", "3\n3\n"},
		{"stat -c %u:%g /x /home/app /shared", "7:8\n1000:1000\n0:44\n"},
		{"mkfifo /p; chown 3:4 /p; ln -s . /n; chown -h 5 /n; stat -c %u /p /n; stat -L -c %u /n", "3\n5\n0\n"},
		{"busybox mktemp -d > /name; chown 3 $(cat /name); cd $(cat /name); rmdir $(cat /name); stat -c %u . 2>&1 || :", "3\n"},
		{"mkdir -p /r/bin /r/d; cp /bin/busybox /r/bin; > /r/f; busybox chroot /r /bin/busybox chown 3 /f d/../f; busybox chroot /r /bin/busybox stat -c %u /f d/../f ../f; stat -c %u /r/f", "3\n3\n3\n3\n"},
		{"find /home -user app; find /d -user 1234", "/home/app\n/home/app/f\n"},
		{"chown 3 /nowhere 2>/dev/null || echo no; chown 3 /file/x 2>/dev/null || echo no", "no\nno\n"},
		{"> /dev/shm/f; chown 3 /dev/shm/f; stat -c %u /dev/shm/f", "3\n"},
	} {
		if got := f.run(f.sh(c[0])); got != c[1] {
			t.Errorf("%s: got %q, want %q", c[0], got, c[1])
		}
	}
}

// testIDs holds that processes are who they have become, and that there is no way back.
func (s *suite) testIDs(t *testing.T) {
	f := s.open(t, ownedBase(t)...)
	const whoami = "id -u; id -g; id -G"
	for script, want := range map[string]string{
		`busybox su app -c "` + whoami + `"`: "1000 1000 1000 10 44",
		`busybox su app -c "sh -c '` + whoami + `'; (busybox su root -c id) 2>/dev/null || echo no"`:            "1000 1000 1000 10 44 no",
		`busybox su app -c "busybox su -c id" >/dev/null 2>&1 || echo no; id -u`:                                "no 0",
		`(busybox start-stop-daemon -S -c app:video -x /bin/sh -- -c "` + whoami + `")`:                         "1000 44 44 10",
		`busybox su app -c "sh -c 'sleep 0.2; id -u > /home/app/late' & exit 0"; sleep 0.6; cat /home/app/late`: "1000",
	} {
		if got := strings.Join(strings.Fields(f.run(f.sh(script))), " "); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
}

// testOwnersElsewhere holds that a layer in which files were given away means the same to whoever opens it.
func (s *suite) testOwnersElsewhere(t *testing.T) {
	d := s.newDriver(t)
	base := ownedBase(t)
	f := openWith(t, d, base...)
	layers := append(base, f.commit("chown -R 1000:44 /d; chown 0 /home/app/f; mkdir /n; chown 5 /n; > /n/f; chown 6 /n/f; ln -s . /n/l; chown -h 5 /n/l"),
		f.commit("chown 9 /d/a; mv /n/f /n/g; chown 0 /d; rm /d/b; > /d/b"))
	const list = "find /d /n /home /x /file /l | sort | while read f; do stat -c '%n %a %u:%g' $f; done"
	want := f.run(f.sh(list))
	for _, driver := range []struct {
		name string
		open *fixture
	}{{"same state", openWith(t, d, layers...)}, {"fresh state", s.open(t, layers...)}} {
		if got := driver.open.run(driver.open.sh(list)); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", driver.name, got, want)
		}
	}
}
