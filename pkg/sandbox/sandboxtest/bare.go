package sandboxtest

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// testBare holds what is left of the contract of mounts where there are none: things are put in their place and taken out
// again.
func (s *suite) testBare(t *testing.T) {
	s.sub(t, "secret", s.testBareSecret)
	s.sub(t, "bind", s.testBareBind)
	s.sub(t, "bind writable", s.testBareBindWritable)
	s.sub(t, "host", s.testBareHost)
	s.sub(t, "tmpfs", s.testBareTmpfs)
	s.sub(t, "cache", s.testBareCache)
	s.sub(t, "network none", s.testBareNetwork)
	s.sub(t, "builder", s.testBareBuilder)
	s.sub(t, "forks", s.testBareForks)
	s.sub(t, "dev", s.testBareDev)
}

// testBareSecret holds that a secret is nowhere when its step has ended, in memory neither.
func (s *suite) testBareSecret(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	const target = "/run/secrets/key"
	secret := rand.Text() + "\n"
	for user, want := range map[string]string{"": secret, "app": secret, "4711": "no\n", "4711:44": secret} {
		p := f.sh("cat " + target + " 2>/dev/null || echo no")
		p.User = user
		p.Mounts = []sandbox.Mount{readOnly(target, sandbox.FileSource{Data: []byte(secret), UID: 1000, GID: 44, Mode: 0o440})}
		if got := f.run(p); got != want {
			t.Errorf("user %q: got %q, want %q", user, got, want)
		}
	}
	f.unchanged()
	// The step may do to it what it likes.
	f.mount("rm "+target+"; mkdir "+target, readOnly(target, sandbox.FileSource{Data: []byte(secret), Mode: 0o400}))
	f.unchanged()
	if got := f.run(f.sh("ls -d /run 2>/dev/null || :; find / -xdev -type f ! -path '/proc/*' | xargs grep -l " + strings.TrimSpace(secret) + " 2>/dev/null || :; ls -A /dev/shm")); got != "" {
		t.Errorf("left %q", got)
	}
}

// testBareBind holds that what a step does to a root that it may only read is lost.
func (s *suite) testBareBind(t *testing.T) {
	d := s.newDriver(t)
	f, src := openWith(t, d, Base(t)), openWith(t, d, tree(t))
	f.settle()
	got := f.mount("cat /m/tree/a; /m/tree/run; stat -c '%a %u:%g' /m/tree /m/tree/owned; echo x > /m/tree/a; rm -r /m/rel /m/tree/run",
		readOnly("/m", sandbox.BindSource{Root: src.root, Path: "/"}))
	if want := "in a\nruns\n750 0:0\n600 1000:44\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.unchanged()
	if got := f.mount("cat /m/tree/a; ls /m", readOnly("/m", sandbox.BindSource{Root: src.root, Path: "/"})); !strings.HasPrefix(got, "in a\nabs\n") || !strings.Contains(got, "rel\n") {
		t.Errorf("afterwards: %q", got)
	}
}

func (s *suite) testBareBindWritable(t *testing.T) {
	d := s.newDriver(t)
	f, src := openWith(t, d, Base(t)), openWith(t, d, tree(t))
	f.settle()
	f.mount("echo new > /m/a; rm /m/run", writable("/m", sandbox.BindSource{Root: src.root, Path: "/rel"}))
	f.unchanged()
	if got := f.mount("cat /m/tree/a; ls /m/tree", writable("/m", sandbox.BindSource{Root: src.root, Path: "/"})); got != "new\na\nout\nowned\n" {
		t.Errorf("got %q", got)
	}
	f.unchanged()
}

func (s *suite) testBareHost(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := f.mount("cat /ro/f; echo x > /ro/f; > /ro/g", readOnly("/ro", sandbox.HostSource{Path: dir})); got != "host\n" {
		t.Errorf("got %q", got)
	}
	f.unchanged()
	if data, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(data) != "host\n" {
		t.Errorf("the builder's file is %q, %v", data, err)
	}
	p := f.sh("true")
	p.Mounts = []sandbox.Mount{writable("/rw", sandbox.HostSource{Path: dir})}
	if err := f.root.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), "cannot be shown for writing") {
		t.Errorf("writable: %v", err)
	}
}

func (s *suite) testBareTmpfs(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	got := f.mount("stat -c '%a %u:%g' /new /new/x /d/sub; ls /d/sub; echo > /new/x/f; > /d/sub/c",
		writable("/new/x", sandbox.TmpfsSource{}), writable("/d/sub", sandbox.TmpfsSource{}))
	if want := "755 0:0\n1777 0:0\n750 0:0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.unchanged()
	if got := f.run(f.sh("cat /d/sub/c")); got != "c" {
		t.Errorf("what was covered is %q", got)
	}
}

// testBareCache holds that a cache outlives a step that removes it, and that two steps do not have it at once.
func (s *suite) testBareCache(t *testing.T) {
	d := s.newDriver(t)
	cache := writable("/c", sandbox.CacheSource{Dir: cacheDir(t, d), Path: "/", Mode: 0o755})
	part := writable("/part", sandbox.CacheSource{Dir: cache.Source.(sandbox.CacheSource).Dir, Path: "/a/b", Mode: 0o755})
	f := openWith(t, d, Base(t))
	f.settle()
	f.mount("echo kept > /part/x", part)
	f.unchanged()
	if got := f.mount("cat /c/a/b/x", cache); got != "kept\n" {
		t.Errorf("got %q", got)
	}
	f.mount("rm -r /c", cache)
	f.unchanged()
	if got := f.mount("ls -A /c; > /c/again", cache); got != "" {
		t.Errorf("got %q", got)
	}
}

func (s *suite) testBareNetwork(t *testing.T) {
	f := s.open(t, Base(t))
	p := f.sh("true")
	p.Network = sandbox.NetworkNone
	if err := f.root.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), "needs a network namespace") {
		t.Errorf("error %v", err)
	}
}

// testBareBuilder holds that a step of root's cannot end or look into processes that are not its own.
func (s *suite) testBareBuilder(t *testing.T) {
	f := s.open(t, Base(t))
	got := f.run(f.sh(`kill -9 1 2>/dev/null && echo killed; kill -9 $PPID 2>/dev/null && echo killed
cat /proc/$PPID/environ /proc/$PPID/maps 2>/dev/null || :; cat /proc/$PPID/fd/* 2>/dev/null || :; ls /proc/$PPID/root/ 2>/dev/null || :; echo alive`))
	if got != "alive\n" {
		t.Errorf("got %q", got)
	}
}

// testBareForks holds that processes do not survive that leave their session and their parent, and go on forking.
func (s *suite) testBareForks(t *testing.T) {
	f := s.open(t, Base(t))
	f.run(f.sh(`echo '#!/bin/sh
echo $$ >> /pids
sleep 0.01
setsid nohup /fork >/dev/null 2>&1 &' > /fork; chmod 755 /fork; for i in 1 2 3; do setsid /fork & done; sleep 0.3`))
	before := f.run(f.sh("wc -l < /pids"))
	if after := f.run(f.sh("sleep 0.2; wc -l < /pids")); after != before {
		t.Errorf("%s processes became %s after the step", before, after)
	}
}

// testBareDev holds that a step cannot spoil /dev for the next one.
func (s *suite) testBareDev(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	f.run(f.sh("rm /dev/null; echo x > /dev/null; rm /dev/zero; ln -s /etc /dev/zero; mkdir -p /dev/new/dir; echo x > /dev/shm/x"))
	if got := f.run(f.sh("cat /dev/null; head -c 3 /dev/zero | wc -c; ls -d /dev/new 2>/dev/null || :; ls -A /dev/shm")); got != "3\n" {
		t.Errorf("got %q", got)
	}
	f.unchanged()
}
