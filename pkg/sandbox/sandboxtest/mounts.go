package sandboxtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

func (s *suite) testMounts(t *testing.T) {
	s.sub(t, "bind", s.testBind)
	s.sub(t, "bind path", s.testBindPath)
	s.sub(t, "bind of roots in every state", s.testBindStates)
	s.sub(t, "bind at once", s.testBindAtOnce)
	s.sub(t, "bind writable", s.testBindWritable)
	s.sub(t, "host", s.testHost)
	s.sub(t, "tmpfs", s.testTmpfs)
	s.sub(t, "secret", s.testSecret)
	s.sub(t, "socket", s.testSocket)
	s.sub(t, "target", s.testTarget)
	s.sub(t, "bad target", s.testBadTarget)
	s.sub(t, "stubs", s.testStubs)
	s.sub(t, "times", s.testMountTimes)
	s.sub(t, "user is that of the root", s.testUserBelow)
	if left := mounts(t); len(left) > 0 {
		t.Errorf("left mounts %q", left)
	}
}

// mount runs a script with mounts and returns its output.
func (f *fixture) mount(script string, mounts ...sandbox.Mount) string {
	f.Helper()
	p := f.sh(script)
	p.Mounts = mounts
	return f.run(p)
}

// unchanged holds that nothing has changed since the last layer.
func (f *fixture) unchanged() {
	f.Helper()
	if got := read(f, f.root.Changes(f.Context())); len(got) > 0 {
		f.Errorf("changes %q", got)
	}
	f.root.Commit(nil)
}

// settle makes a layer of what mounts of the system leave behind.
func (f *fixture) settle() { f.commit("true") }

func readOnly(target string, source sandbox.MountSource) sandbox.Mount {
	return sandbox.Mount{Target: target, ReadOnly: true, Source: source}
}

func writable(target string, source sandbox.MountSource) sandbox.Mount {
	return sandbox.Mount{Target: target, Source: source}
}

// tree is a layer of a root to mount from.
func tree(t testing.TB) v1.Layer {
	return Layer(t,
		Dir("tree", 0o750), File("tree/a", 0o640, "in a\n"), File("tree/run", 0o755, "#!/bin/sh\necho runs\n"),
		Dir("etc", 0o755), File("etc/passwd", 0o644, "inside\n"),
		Symlink("abs", "/tree/a"), Symlink("rel", "tree"), Symlink("up", "../../../../../../etc/passwd"),
		Symlink("tree/out", "../../../../etc"), Symlink("dangling", "/nowhere"), Symlink("loop", "loop"),
		Owned(File("tree/owned", 0o600, ""), 1000, 44),
	)
}

func (s *suite) testBind(t *testing.T) {
	d := s.newDriver(t)
	f, src := openWith(t, d, Base(t)), openWith(t, d, tree(t))
	f.settle()
	got := f.mount(`cat /m/tree/a; /m/tree/run; stat -c '%a %u:%g' /m/tree /m/tree/owned
for x in "> /m/x" "> /m/tree/a" "rm /m/tree/a" "chmod 0 /m/tree/a" "mount -o remount,bind,rw /m" "umount /m" "rm -r /m"; do
	(eval "$x") 2>/dev/null && echo "could $x"; done; :`,
		readOnly("/m", sandbox.BindSource{Root: src.root, Path: "/"}))
	owned := "600 1000:44\n"
	if s.o.Unsupervised {
		owned = "600 0:0\n"
	}
	if want := "in a\nruns\n750 0:0\n" + owned; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.unchanged()
	if got := f.run(f.sh("ls -d /m 2>/dev/null || :")); got != "" {
		t.Errorf("left %q", got)
	}
}

func (s *suite) testBindPath(t *testing.T) {
	d := s.newDriver(t)
	src := openWith(t, d, tree(t))
	f := openWith(t, d, Base(t))
	for _, c := range []struct{ path, script, want string }{
		{"/tree/a", "cat /m", "in a\n"},
		{"/abs", "cat /m", "in a\n"},
		{"/rel", "cat /m/a", "in a\n"},
		{"/rel/a", "cat /m", "in a\n"},
		{"/up", "cat /m", "inside\n"},
		{"/../../etc/passwd", "cat /m", "inside\n"},
		{"/tree/out", "cat /m/passwd", "inside\n"},
		{"/tree/out/passwd", "cat /m", "inside\n"},
	} {
		if got := f.mount(c.script, readOnly("/m", sandbox.BindSource{Root: src.root, Path: c.path})); got != c.want {
			t.Errorf("%s: got %q, want %q", c.path, got, c.want)
		}
	}
	for _, path := range []string{"/nope", "/tree/nope/x", "/dangling", "/tree/a/x"} {
		f := openWith(t, d, Base(t))
		p := f.sh("true")
		p.Mounts = []sandbox.Mount{readOnly("/m", sandbox.BindSource{Root: src.root, Path: path})}
		err := f.root.Run(t.Context(), p)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"`+path+`": not found`) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	p := f.sh("true")
	p.Mounts = []sandbox.Mount{readOnly("/m", sandbox.BindSource{Root: src.root, Path: "/loop"})}
	if err := f.root.Run(t.Context(), p); err == nil {
		t.Error("a link to itself can be mounted")
	}
}

// testBindStates mounts roots with no layer, one, several, and changes that are not a layer yet.
func (s *suite) testBindStates(t *testing.T) {
	d := s.newDriver(t)
	f := openWith(t, d, Base(t))
	check := func(name string, root sandbox.Root, want string) {
		t.Helper()
		got := f.mount("ls /m | sort", readOnly("/m", sandbox.BindSource{Root: root, Path: "/"}))
		if got = strings.Join(strings.Fields(got), " "); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	src := openWith(t, d)
	check("none", src.root, "")
	if err := src.root.Add(t.Context(), Layer(t, File("one", 0o644, ""), File("gone", 0o644, ""))); err != nil {
		t.Fatal(err)
	}
	check("one", src.root, "gone one")
	if err := src.root.Add(t.Context(), Layer(t, File("two", 0o644, ""), Whiteout(".wh.gone"))); err != nil {
		t.Fatal(err)
	}
	check("two", src.root, "one two")
	run := openWith(t, d, Base(t))
	run.run(run.sh("rm -r /d /file /h1 /h2 /link /same /setuid; > /made"))
	check("after a process", run.root, "bin dev etc made proc root sys tmp")
	run.root.Changes(t.Context())
	check("changes not read", run.root, "bin dev etc made proc root sys tmp")
}

// testBindAtOnce mounts one root in several processes.
func (s *suite) testBindAtOnce(t *testing.T) {
	d := s.newDriver(t)
	src := openWith(t, d, tree(t), Layer(t, File("more", 0o644, "")))
	g, ctx := errgroup.WithContext(t.Context())
	for range 4 {
		f := openWith(t, d, Base(t))
		g.Go(func() error {
			p := f.sh("cat /a/a /b/tree/a; sleep 0.3; cat /a/a")
			p.Mounts = []sandbox.Mount{
				readOnly("/a", sandbox.BindSource{Root: src.root, Path: "/tree"}),
				readOnly("/b", sandbox.BindSource{Root: src.root, Path: "/"}),
			}
			err := f.root.Run(ctx, p)
			if got := f.out.String(); err == nil && got != "in a\nin a\nin a\n" {
				err = errors.New(got)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// testBindWritable holds that what is written to a root can be seen there, and nowhere else.
func (s *suite) testBindWritable(t *testing.T) {
	d := s.newDriver(t)
	base := tree(t)
	f, src := openWith(t, d, Base(t)), openWith(t, d, base)
	f.settle()
	all := sandbox.BindSource{Root: src.root, Path: "/"}
	part := sandbox.BindSource{Root: src.root, Path: "/rel"}
	got := f.mount("echo new > /m/tree/a; rm /m/tree/run; cat /part/a; ls /ro/tree; > /ro/x || echo no",
		writable("/m", all), writable("/part", part), readOnly("/ro", all))
	if want := "new\na\nout\nowned\nsh: can't create /ro/x: Read-only file system\nno\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.unchanged()
	if got := f.mount("cat /m/a", writable("/m", part)); got != "new\n" {
		t.Errorf("in the next process: %q", got)
	}
	other := openWith(t, d, base)
	if got := f.mount("cat /m/a; ls /m", readOnly("/m", sandbox.BindSource{Root: other.root, Path: "/tree"})); got != "in a\na\nout\nowned\nrun\n" {
		t.Errorf("another root of the layer: %q", got)
	}
	f.unchanged()
}

// testHost mounts files of the builder.
func (s *suite) testHost(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := f.mount("cat /ro/f /ro.f; > /ro/x || echo no; > /ro.f || echo no; mount -o remount,bind,rw /ro 2>/dev/null || echo no; echo written > /rw/x",
		readOnly("/ro", sandbox.HostSource{Path: dir}), readOnly("/ro.f", sandbox.HostSource{Path: name}), writable("/rw", sandbox.HostSource{Path: dir}))
	want := "host\nhost\nsh: can't create /ro/x: Read-only file system\nno\nsh: can't create /ro.f: Read-only file system\nno\nno\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "x")); string(data) != "written\n" || err != nil {
		t.Errorf("written %q, %v", data, err)
	}
	f.unchanged()
	p := f.sh("true")
	p.Mounts = []sandbox.Mount{writable("/m", sandbox.HostSource{Path: filepath.Join(dir, "nope")})}
	if err := f.root.Run(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func (s *suite) testTmpfs(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	got := f.mount(`stat -c '%a %u:%g' /new /new/x /d/sub; grep -E ' (/new/x|/d/sub) ' /proc/mounts | sed 's/ rw,nosuid,nodev,relatime.*/ ok/'
echo > /new/x/f; > /ro/x || echo no; dd if=/dev/zero of=/small/f bs=64k count=64 2>/dev/null || stat -c %s /small/f`,
		writable("/new/x", sandbox.TmpfsSource{}), writable("/d/sub", sandbox.TmpfsSource{}), readOnly("/ro", sandbox.TmpfsSource{}),
		writable("/small", sandbox.TmpfsSource{Size: 1 << 20}))
	want := "755 0:0\n1777 0:0\n750 0:0\ntmpfs /new/x tmpfs ok\ntmpfs /d/sub tmpfs ok\n" +
		"sh: can't create /ro/x: Read-only file system\nno\n1048576\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.unchanged()
}

func (s *suite) testSecret(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	const target = "/run/secrets/key"
	secret := func(uid, gid int, mode int64) sandbox.Mount {
		return writable(target, sandbox.FileSource{Data: []byte("s3cret\n"), UID: uid, GID: gid, Mode: mode})
	}
	got := f.mount("cat "+target+"; stat -c '%a %u:%g' "+target+"; (echo x > "+target+") 2>/dev/null || echo no; rm "+target+" 2>/dev/null || echo busy\n"+
		"grep ' "+target+" ' /proc/mounts | sed 's/^tmpfs .* ro,nosuid,nodev,noexec.*/memory/'; ls /run",
		secret(0, 0, 0o400))
	if want := "s3cret\n400 0:0\nno\nbusy\nmemory\nsecrets\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.unchanged()
	if got := f.run(f.sh("ls -d /run 2>/dev/null || echo gone")); got != "gone\n" {
		t.Errorf("afterwards: %q", got)
	}
	own := "440 1000:44\n"
	if s.o.OneOwner {
		own = "440 0:0\n"
	}
	if got := f.mount("stat -c '%a %u:%g' "+target, secret(1000, 44, 0o440)); got != own {
		t.Errorf("with an owner: %q, want %q", got, own)
	}
	if s.o.OneOwner {
		return
	}
	for user, want := range map[string]string{"app": "s3cret\n", "4711": "no\n", "4711:44": "s3cret\n"} {
		p := f.sh("cat " + target + " 2>/dev/null || echo no")
		p.User, p.Mounts = user, []sandbox.Mount{secret(1000, 44, 0o440)}
		if got := f.run(p); got != want {
			t.Errorf("user %s: %q, want %q", user, got, want)
		}
	}
}
