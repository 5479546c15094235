package sandboxtest

import (
	"slices"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

func (s *suite) testTarget(t *testing.T) {
	d := s.newDriver(t)
	f := openWith(t, d, Base(t), Layer(t, Symlink("to-file", "file"), Symlink("out", "../../../../../etc")))
	text := func(s string) sandbox.MountSource { return sandbox.FileSource{Data: []byte(s), Mode: 0o644} }
	for _, c := range []struct {
		name, script, want string
		mounts             []sandbox.Mount
	}{
		{"over a file", "cat /file", "new", []sandbox.Mount{writable("/file", text("new"))}},
		{"through links", "cat /d/a /file /etc/group", "123",
			[]sandbox.Mount{writable("/link/a", text("1")), writable("/to-file", text("2")), writable("/out/group", text("3"))}},
		{"a link itself", "ls /d; readlink /link", "d\n", []sandbox.Mount{writable("/link", sandbox.TmpfsSource{})}},
		{"the later one covers", "cat /file", "b", []sandbox.Mount{writable("/file", text("a")), writable("/file", text("b"))}},
		{"nested", "cat /d/x/y; ls /d", "yx\n",
			[]sandbox.Mount{writable("/d", sandbox.TmpfsSource{}), writable("/d/x/y", text("y"))}},
		{"covered by a later one", "ls /d", "", []sandbox.Mount{writable("/d/x/y", text("y")), writable("/d", sandbox.TmpfsSource{})}},
		{"over what every step has", "cat /etc/hosts /dev/shm/x", "hx",
			[]sandbox.Mount{writable("/etc/hosts", text("h")), writable("/dev/shm", sandbox.TmpfsSource{}), writable("/dev/shm/x", text("x"))}},
	} {
		if got := f.mount(c.script, c.mounts...); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func (s *suite) testBadTarget(t *testing.T) {
	d := s.newDriver(t)
	src := openWith(t, d, tree(t))
	file := sandbox.FileSource{Data: []byte("x"), Mode: 0o644}
	for _, c := range []struct {
		target string
		source sandbox.MountSource
		want   string
	}{
		{"/", sandbox.TmpfsSource{}, "it is the root"},
		{"/to-root", sandbox.TmpfsSource{}, "it is the root"},
		{"/proc/x", sandbox.TmpfsSource{}, "nothing may be mounted in /proc"},
		{"/to-proc/sys", sandbox.TmpfsSource{}, "nothing may be mounted in /proc"},
		{"/d", file, `/d": not a directory`},
		{"/file", sandbox.TmpfsSource{}, `/file": not a directory`},
		{"/file/x", file, `mount on "/file/x"`},
		{"/ro/missing", file, "read-only file system"},
		{"/x", nil, "no source"},
		{"/x", sandbox.CacheSource{Dir: "a", Path: "/"}, `path "a" is not absolute`},
		{"/x", sandbox.SocketSource{Path: "a"}, `path "a" is not absolute`},
	} {
		f := openWith(t, d, Base(t), Layer(t, Symlink("to-root", "d/.."), Symlink("to-proc", "proc")))
		p := f.sh("true")
		p.Mounts = []sandbox.Mount{
			readOnly("/ro", sandbox.BindSource{Root: src.root, Path: "/"}), writable(c.target, c.source),
		}
		if err := f.root.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.target, err, c.want)
		}
	}
}

// testStubs holds that what had to be made to mount on is no change unless the step makes something of it.
func (s *suite) testStubs(t *testing.T) {
	d := s.newDriver(t)
	src := openWith(t, d, tree(t))
	f := openWith(t, d, Base(t), Layer(t, Symlink("dangling", "/nowhere/x")))
	f.settle()
	file := sandbox.FileSource{Mode: 0o644}
	bind := sandbox.BindSource{Root: src.root, Path: "/tree"}
	for _, c := range []struct {
		name, script string
		mounts       []sandbox.Mount
		want         []string
	}{
		{"directory", "true", []sandbox.Mount{writable("/new/a/b", sandbox.TmpfsSource{})}, nil},
		{"file", "true", []sandbox.Mount{writable("/d/new/f", file), writable("/f", file)}, nil},
		{"bind", "true", []sandbox.Mount{readOnly("/d/new", bind), writable("/other", bind)}, nil},
		{"nested", "> /n/f", []sandbox.Mount{writable("/n", sandbox.TmpfsSource{}), readOnly("/n/x/y", bind), writable("/n/z", file)}, nil},
		{"nested over a directory", "> /d/f", []sandbox.Mount{writable("/d", sandbox.TmpfsSource{}), readOnly("/d/x/y", bind)}, nil},
		{"twice", "true", []sandbox.Mount{writable("/new/a", sandbox.TmpfsSource{}), writable("/new/a", sandbox.TmpfsSource{})}, nil},
		{"under a later one", "true", []sandbox.Mount{writable("/d/new/a", file), writable("/d", sandbox.TmpfsSource{})}, nil},
		{"at the end of a link", "true", []sandbox.Mount{writable("/dangling", file), writable("/link/new", file)}, nil},
		{"what is there stays", "true", []sandbox.Mount{writable("/d/a", file), writable("/d/sub", sandbox.TmpfsSource{}), writable("/tmp", sandbox.TmpfsSource{})}, nil},
		{"in /dev", "true", []sandbox.Mount{writable("/dev/new", file)}, nil},
		{"filled by the step", "> /new/x; > /new/a/f", []sandbox.Mount{writable("/new/a", sandbox.TmpfsSource{}), writable("/new/b", file)},
			[]string{"+ d 0755 0:0 new", `+ f 0644 0:0 new/x ""`}},
		{"a link in their place", "mv /new /moved; ln -s d /new; mkdir /d/a1", []sandbox.Mount{writable("/new/a1", sandbox.TmpfsSource{})},
			[]string{"+ d 0755 0:0 d", "+ d 0755 0:0 d/a1", "+ d 0755 0:0 moved", "+ d 0755 0:0 moved/a1", "+ l new -> d"}},
		{"a link to itself in their place", "mv /new /moved; ln -s new /new", []sandbox.Mount{writable("/new/x", sandbox.TmpfsSource{})},
			[]string{"+ d 0755 0:0 moved", "+ d 0755 0:0 moved/x", "+ l new -> new"}},
	} {
		f.mount(c.script, c.mounts...)
		got := read(t, f.root.Changes(t.Context()))
		f.root.Commit(nil)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: changes %q, want %q", c.name, got, c.want)
		}
		f.run(f.sh("rm -rf /new /moved /d/a1"))
		read(t, f.root.Changes(t.Context()))
		f.root.Commit(nil)
	}
}

// testMountTimes holds that directories keep their times when stubs are made and removed in them.
func (s *suite) testMountTimes(t *testing.T) {
	f := s.open(t, Base(t))
	const times = "stat -c '%y %n' / /d /d/sub"
	before := f.run(f.sh(times))
	mounts := []sandbox.Mount{
		writable("/d/sub/new/x", sandbox.TmpfsSource{}), writable("/d/f", sandbox.FileSource{Mode: 0o644}), writable("/n", sandbox.TmpfsSource{}),
	}
	if got := f.mount(times, mounts...); got != before {
		t.Errorf("meanwhile:\n%s, want\n%s", got, before)
	}
	if got := f.run(f.sh(times)); got != before {
		t.Errorf("afterwards:\n%s, want\n%s", got, before)
	}
}

// testUserBelow holds that a mount does not decide who runs the step.
func (s *suite) testUserBelow(t *testing.T) {
	f := s.open(t, Base(t))
	p := f.sh("id -u")
	p.User = "root"
	p.Mounts = []sandbox.Mount{writable("/etc", sandbox.TmpfsSource{})}
	if got := f.run(p); got != "0\n" {
		t.Errorf("got %q", got)
	}
	if s.o.Unsupervised {
		return
	}
	p.User = "app"
	p.Mounts = []sandbox.Mount{writable("/etc/passwd", sandbox.FileSource{Data: []byte("app:x:4711:4711::/:/bin/sh\n"), Mode: 0o644})}
	if got := f.run(p); got != "1000\n" {
		t.Errorf("got %q", got)
	}
}
