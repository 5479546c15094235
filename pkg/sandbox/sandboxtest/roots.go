package sandboxtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

func (s *suite) testRoots(t *testing.T) {
	t.Run("scratch", func(t *testing.T) {
		d := s.newDriver(t)
		f := openWith(t, d)
		if err := f.root.Add(t.Context(), Base(t)); err != nil {
			t.Fatal(err)
		}
		f.run(f.sh("true"))
	})
	t.Run("concurrent", s.testConcurrent)
	t.Run("independent", s.testIndependent)
	t.Run("close", s.testClose)
	t.Run("fork", s.testFork)
}

// testConcurrent opens roots on the same layers at once.
func (s *suite) testConcurrent(t *testing.T) {
	d := s.newDriver(t)
	layers := []v1.Layer{Base(t), Layer(t, File("x/y", 0o644, "1")), Layer(t, File("x/z", 0o644, "2"))}
	dir := t.TempDir()
	g, ctx := errgroup.WithContext(t.Context())
	for i := range 4 {
		g.Go(func() error {
			root, err := d.Open(ctx, layers)
			if err != nil {
				return err
			}
			defer root.Close()
			f := &fixture{TB: t, root: root}
			for n := range 3 {
				script := fmt.Sprintf("[ $(cat /x/y /x/z) = 12 ]; [ $(ls / | grep -c mine || :) = %d ]; echo > /mine%d", n, n)
				if err := root.Run(ctx, f.sh(script)); err != nil {
					return fmt.Errorf("root %d: %w\n%s", i, err, f.out.String())
				}
				l, err := snapshot.Write(ctx, root.Changes(ctx), snapshot.Options{Dir: dir})
				if err != nil {
					return err
				}
				root.Commit(l)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) testIndependent(t *testing.T) {
	d := s.newDriver(t)
	a, b := openWith(t, d, Base(t)), openWith(t, d, Base(t))
	a.run(a.sh("echo a > /file; rm -r /d"))
	if got := b.run(b.sh("cat /file; ls /d | wc -l")); got != "file\n3\n" {
		t.Errorf("got %q", got)
	}
}

// testFork opens a stack with a layer that another root has made, while that one goes on.
func (s *suite) testFork(t *testing.T) {
	d := s.newDriver(t)
	base := Base(t)
	a := openWith(t, d, base)
	l := a.commit("echo one > /one; rm /file")
	b := openWith(t, d, base, l)
	a.run(a.sh("echo two > /one"))
	if got := b.run(b.sh("cat /one; ls /file 2>/dev/null || :")); got != "one\n" {
		t.Errorf("got %q", got)
	}
	if err := a.root.Close(); err != nil {
		t.Error(err)
	}
	if got := b.run(b.sh("cat /one")); got != "one\n" {
		t.Errorf("after the other was closed: %q", got)
	}
	c := openWith(t, d, base, l)
	if got := c.run(c.sh("cat /one")); got != "one\n" {
		t.Errorf("opened later: %q", got)
	}
}

func (s *suite) testClose(t *testing.T) {
	f := s.open(t, Base(t))
	f.run(f.sh("mkdir -p /a/b; chmod 0 /a/b; chmod 0 /a"))
	f.root.Changes(t.Context()) // not consumed
	for range 2 {
		if err := f.root.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := f.root.Run(t.Context(), f.sh("true")); err == nil {
		t.Error("a closed root runs")
	}
}

// asUser is what a test program is started with to run tests as an ordinary user.
const asUser = "sandboxtest-as-user"

// RunAs runs tests of the calling test program, those that pattern matches, as an ordinary user: as nobody, whom
// /etc/subuid gives a range of ids there, or as a user who has but one id. The calling test must be run
// as root.
func RunAs(t *testing.T, subordinate bool, pattern string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can become another user")
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// Where Go puts programs of tests only their owner can reach them.
	dir, err := os.MkdirTemp("", "as-user-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, tmp := filepath.Join(dir, "program.test"), filepath.Join(dir, "tmp")
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.WriteFile(program, self, 0o755), os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	who := "4242"
	if subordinate {
		who = "65534"
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Args = []string{asUser, program, who, pattern}
	cmd.Dir = tmp
	cmd.Env = []string{"TMPDIR=" + tmp, "PATH=/usr/bin:/bin:/usr/sbin:/sbin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), "\nok ") && !strings.Contains(string(out), "PASS\n") || err != nil {
		t.Errorf("as user %s: %v\n%s", who, err, out)
	}
}

// asUserMain is the main program of RunAs: it prepares /etc/subuid, becomes the user and runs the tests.
func asUserMain() {
	if os.Args[0] != asUser {
		return
	}
	program, who, pattern := os.Args[1], os.Args[2], os.Args[3]
	if err := becomeUser(who); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	err := syscall.Exec(program, []string{program, "-test.run=" + pattern, "-test.v"}, os.Environ())
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func becomeUser(who string) error {
	uid := 4242
	ids := "other:100000:65536\n"
	if who == "65534" {
		uid, ids = 65534, "nobody:200000:65536\n"
	}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		f, err := os.CreateTemp("", "ids-*")
		if err != nil {
			return err
		}
		if _, err := f.WriteString(ids); err != nil {
			return err
		}
		if err := f.Chmod(0o644); err != nil {
			return err
		}
		f.Close()
		if err := unix.Mount(f.Name(), name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", name, err)
		}
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(uid); err != nil {
		return err
	}
	return syscall.Setuid(uid)
}

// Ordinary reports whether the tests run as an ordinary user.
func Ordinary() bool { return os.Getuid() != 0 }
