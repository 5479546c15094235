package sandboxtest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

func (s *suite) testProcess(t *testing.T) {
	f := s.open(t, Base(t))
	s.sub(t, "view", func(t *testing.T) { s.testView(t, f) })
	s.sub(t, "user", func(t *testing.T) { s.testUser(t, f) })
	s.sub(t, "environment", func(t *testing.T) { testEnvironment(t, f) })
	s.sub(t, "streams", func(t *testing.T) { testStreams(t, f) })
	s.sub(t, "working directory", s.testWorkingDirectory)
	s.sub(t, "exit", s.testExit)
	s.sub(t, "not found", s.testNotFound)
	s.sub(t, "trap 28 daemons", s.testDaemons)
	s.sub(t, "cancel", s.testCancel)
	s.sub(t, "network none", s.testNetwork)
	s.sub(t, "files", s.testFiles)
	s.sub(t, "builder is out of reach", s.testBuilder)
}

// testView looks at what a process sees of the system.
func (s *suite) testView(t *testing.T, f *fixture) {
	resolvConf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, script, want string }{
		{"capabilities", "grep Cap /proc/self/status", "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n" +
			"CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n"},
		{"privileges may be gained", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0\n"},
		{"hostname", "hostname", "buildkitsandbox\n"},
		{"hosts", "cat /etc/hosts", "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
		{"resolv.conf", "cat /etc/resolv.conf", string(resolvConf)},
		{"hosts is read-only", "echo x 2>/dev/null > /etc/hosts || echo no", "no\n"},
		{"umask", "umask", "0022\n"},
		{"first process", "echo $PPID", "1\n"},
		{"only its own processes", "for p in /proc/[0-9]*; do echo ${p#/proc/}; done | awk '$1 > 30'", ""},
		{"no inherited files", "ls /proc/self/fd | grep -v '^[0123]$' || :", ""},
		{"stdin is empty", "cat", ""},
		{"session of its own", "awk '{print ($1 == $6)}' /proc/$$/stat", "1\n"},
		{"devices", "cd /dev; ls -d null zero full random urandom tty ptmx pts/ptmx shm mqueue fd stdin stdout stderr | wc -l", "14\n"},
		{"null", "echo x > /dev/null; head -c 3 /dev/zero | wc -c", "3\n"},
		{"shm", "echo x > /dev/shm/x; cat /dev/shm/x", "x\n"},
		{"sys is read-only", "> /sys/x || echo no", "sh: can't create /sys/x: Read-only file system\nno\n"},
		{"proc/sys is read-only", "echo x 2>/dev/null > /proc/sys/kernel/hostname || echo no", "no\n"},
		{"masked", "cat /proc/keys /proc/timer_list; ls /sys/firmware", ""},
		{"mount is not permitted", "mount -t tmpfs x /tmp 2>/dev/null || echo no", "no\n"},
	} {
		s.sub(t, c.name, func(t *testing.T) {
			if got := f.run(f.sh(c.script)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func (s *suite) testUser(t *testing.T, f *fixture) {
	const whoami = "id -u; id -g; id -G; echo $HOME"
	for _, c := range []struct{ user, want string }{
		{"", "0 0 0 10 /root"},
		{"root", "0 0 0 10 /root"},
		{"0:0", "0 0 0 /root"},
		{"app", "1000 1000 1000 10 44 /home/app"},
		{"1000", "1000 1000 1000 10 44 /home/app"},
		{"app:video", "1000 44 44 /home/app"},
		{"app:7", "1000 7 7 /home/app"},
		{"1000:1000", "1000 1000 1000 /home/app"},
		{"4711", "4711 0 0 /"},
		{"4711:42", "4711 42 42 /"},
	} {
		s.sub(t, c.user, func(t *testing.T) {
			if s.o.Unsupervised && c.user != "" && c.user != "root" && c.user != "0:0" {
				p := f.sh("true")
				p.User = c.user
				bad := s.open(t, Base(t))
				if err := bad.root.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), "/etc/subuid") {
					t.Errorf("error %v, want one that names /etc/subuid", err)
				}
				return
			}
			p := f.sh(whoami)
			p.User = c.user
			got := strings.Join(strings.Fields(f.run(p)), " ")
			want := c.want
			if s.o.Unsupervised {
				want = "0 0 0 " + want[strings.Index(want, "/"):] // nobody may change groups
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	s.sub(t, "unknown", func(t *testing.T) {
		bad := s.open(t, Base(t))
		p := bad.sh("true")
		p.User = "nobody-there"
		err := bad.root.Run(t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), "unable to find user nobody-there: no matching entries in passwd file") {
			t.Errorf("error %v", err)
		}
	})
	if !s.o.OneOwner {
		s.sub(t, "no capabilities", func(t *testing.T) {
			p := f.sh("grep CapEff /proc/self/status; (echo x > /file) 2>/dev/null || echo no; echo y > /dev/stdout")
			p.User = "app"
			if got := f.run(p); got != "CapEff:\t0000000000000000\nno\ny\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func testEnvironment(t *testing.T, f *fixture) {
	for _, c := range []struct {
		name string
		env  []string
		want string
	}{
		{"as given", []string{"PATH=/bin", "A=1", "B=x y", "BAD", "A=2"}, "PATH=/bin B=x y A=2 HOME=/root"},
		{"home kept", []string{"PATH=/bin", "HOME=/h"}, "PATH=/bin HOME=/h"},
		{"bytes", []string{"PATH=/bin", "HOME=/h", "X=\xff\xfe"}, "PATH=/bin HOME=/h X=\xff\xfe"},
	} {
		p := f.sh("")
		p.Args, p.Env = []string{"env"}, c.env
		if got := strings.ReplaceAll(strings.TrimSpace(f.run(p)), "\n", " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// testStreams holds that output comes as it is written, and both streams in their order when they are one.
func testStreams(t *testing.T, f *fixture) {
	if got := f.run(f.sh("for i in 1 2 3; do echo $i; echo e$i >&2; done")); got != "1\ne1\n2\ne2\n3\ne3\n" {
		t.Errorf("one stream: %q", got)
	}
	out, errs := new(timedWriter), new(timedWriter)
	p := f.sh("echo a; sleep 0.5; echo b >&2")
	p.Stdout, p.Stderr = out, errs
	f.run(p)
	if out.text.String() != "a\n" || errs.text.String() != "b\n" {
		t.Errorf("got %q and %q", out.text.String(), errs.text.String())
	}
	if gap := errs.last.Sub(out.last); gap < 300*time.Millisecond {
		t.Errorf("output came only %v before what was written half a second later", gap)
	}
	p.Stdout, p.Stderr = nil, nil
	f.run(p)
}

type timedWriter struct {
	text strings.Builder
	last time.Time
}

func (w *timedWriter) Write(p []byte) (int, error) {
	w.last = time.Now()
	return w.text.Write(p)
}

func (s *suite) testWorkingDirectory(t *testing.T) {
	f := s.open(t, Base(t))
	p := f.sh("pwd")
	for _, c := range []struct{ dir, want string }{
		{"/", "/\n"}, {"/tmp", "/tmp\n"}, {"/link/sub", "/d/sub\n"}, {"/new/deep/er", "/new/deep/er\n"}, {"/link/made", "/d/made\n"},
	} {
		p.Dir = c.dir
		if got := f.run(p); got != c.want {
			t.Errorf("in %s: got %q", c.dir, got)
		}
	}
	if s.o.Unsupervised {
		return
	}
	p.Dir, p.User = "/owned/x", "app"
	f.run(p)
	p.Dir, p.User = "/root", "app" // entered before the user is changed to
	f.run(p)
	want := []string{"+ d 0755 1000:1000 owned", "+ d 0755 1000:1000 owned/x"}
	var got []string
	for _, l := range read(t, f.root.Changes(t.Context())) {
		if strings.Contains(l, "owned") {
			got = append(got, l)
		}
	}
	f.root.Commit(nil)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("made %q, want %q", got, want)
	}
}

func (s *suite) testExit(t *testing.T) {
	d := s.newDriver(t)
	for _, c := range []struct {
		script string
		want   int
	}{
		{"exit 3", 3}, {"false", 1}, {"exit 255", 255}, {"kill -9 $$", 128 + 9}, {"kill -15 $$", 128 + 15}, {"exit 137", 137},
	} {
		f := openWith(t, d, Base(t))
		if got := exitCode(f.root.Run(t.Context(), f.sh(c.script))); got != c.want {
			t.Errorf("%q: exit code %d, want %d", c.script, got, c.want)
		}
		if err := f.root.Run(t.Context(), f.sh("true")); err == nil {
			t.Errorf("%q: root runs on after an error", c.script)
		}
	}
}

func (s *suite) testNotFound(t *testing.T) {
	d := s.newDriver(t)
	for _, c := range []struct {
		arg  string
		code int
		want string
	}{
		{"nope", 127, `exec: "nope": executable file not found in $PATH`},
		{"/nope", 127, `exec: "/nope": stat /nope: no such file or directory`},
		{"/file", 126, `exec: "/file": permission denied`},
		{"/d", 126, `exec: "/d": is a directory`},
		{"/text", 126, `exec /text: exec format error`},
		{"/script", 127, `exec /script: no such file or directory`},
	} {
		f := openWith(t, d, Base(t), Layer(t, File("text", 0o755, "text\n"), File("script", 0o755, "#!/no/interpreter\n")))
		p := f.sh("")
		p.Args = []string{c.arg}
		err := f.root.Run(t.Context(), p)
		if exitCode(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q and code %d", c.arg, err, c.want, c.code)
		}
	}
}

// testDaemons holds that a step ends when its process does, and takes the others along.
func (s *suite) testDaemons(t *testing.T) {
	f := s.open(t, Base(t))
	mark := "9" + strconv.FormatInt(time.Now().UnixNano()%1e9, 10)
	f.run(f.sh("setsid nohup sleep " + mark + " >/dev/null 2>&1 & (sleep " + mark + " &) ; (true &) ; sleep 0.1"))
	if pids := processes(t, "sleep\x00"+mark); len(pids) > 0 {
		t.Errorf("left processes %v", pids)
	}
	// Those that hold its streams open do not keep it waiting either.
	f.run(f.sh("setsid sleep " + mark + " & true"))
	if pids := processes(t, "sleep\x00"+mark); len(pids) > 0 {
		t.Errorf("left processes %v", pids)
	}
	if got := f.run(f.sh("for i in $(seq 50); do (true &); done; sleep 0.2; cat /proc/[0-9]*/stat | awk '$3 == \"Z\"' | wc -l")); got != "0\n" {
		t.Errorf("zombies: %s", got)
	}
}

// Running reports whether there is a process with that in its command line.
func Running(t testing.TB, args string) bool {
	t.Helper()
	return len(processes(t, args)) > 0
}

// processes returns those that have the string in their command line.
func processes(t testing.TB, args string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && strings.Contains(string(data), args) {
			out = append(out, filepath.Base(filepath.Dir(f)))
		}
	}
	return out
}

func (s *suite) testCancel(t *testing.T) {
	f := s.open(t, Base(t))
	ctx, cancel := cancelled(t)
	mark := "8" + strconv.FormatInt(time.Now().UnixNano()%1e9, 10)
	why := errors.New("no longer wanted")
	time.AfterFunc(300*time.Millisecond, func() { cancel(why) })
	err := f.root.Run(ctx, f.sh("(trap '' TERM INT HUP; sleep "+mark+") & setsid sleep "+mark+"; sleep "+mark))
	if !errors.Is(err, why) {
		t.Errorf("error %v, want the cause", err)
	}
	if pids := processes(t, "sleep\x00"+mark); len(pids) > 0 {
		t.Errorf("left processes %v", pids)
	}
	if left := mounts(t); len(left) > 0 {
		t.Errorf("left mounts %q", left)
	}
	if err := f.root.Close(); err != nil {
		t.Error(err)
	}
	dead, cancelDead := cancelled(t)
	cancelDead(why)
	g := s.open(t, Base(t))
	if err := g.root.Run(dead, g.sh("true")); !errors.Is(err, why) {
		t.Errorf("with a context that is done: %v", err)
	}
}

// mounts returns the mounts below the directories of t; others come and go on a machine.
func mounts(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, filepath.Dir(t.TempDir())) {
			own = append(own, line)
		}
	}
	return own
}

func (s *suite) testNetwork(t *testing.T) {
	f := s.open(t, Base(t))
	p := f.sh("ls /sys/class/net; ip addr show lo | grep -c 'inet 127.0.0.1'")
	p.Network = sandbox.NetworkNone
	if got := f.run(p); got != "lo\n1\n" {
		t.Errorf("none: got %q", got)
	}
	host, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Count(string(host), "\n")
	if got := f.run(f.sh("wc -l < /proc/net/dev")); strings.TrimSpace(got) != strconv.Itoa(want) {
		t.Errorf("host: %q lines of interfaces, want %d", got, want)
	}
}

func (s *suite) testFiles(t *testing.T) {
	f := s.open(t, Base(t))
	f.commit("true")
	p := f.sh("/dev/pipes/EOF; cat /etc/extra /file; echo x 2>/dev/null > /etc/extra || echo no; rm /file 2>/dev/null || echo busy")
	p.Files = []sandbox.File{
		{Path: "/dev/pipes/EOF", Mode: 0o755, Data: []byte("#!/bin/sh\necho script\n")},
		{Path: "/etc/extra", Mode: 0o600, Data: []byte("extra\n")},
		{Path: "/file", Mode: 0o644, Data: []byte("covered\n")},
	}
	if got := f.run(p); got != "script\nextra\ncovered\nno\nbusy\n" {
		t.Errorf("got %q", got)
	}
	if got := read(t, f.root.Changes(t.Context())); len(got) > 0 {
		t.Errorf("changes %q", got)
	}
	f.root.Commit(nil)
}

// testBuilder holds that a step cannot get at the program that runs it through /proc.
func (s *suite) testBuilder(t *testing.T) {
	f := s.open(t, Base(t))
	got := f.run(f.sh("readlink /proc/1/exe || echo no; cat /proc/1/fd/3 2>/dev/null || echo no; kill -9 1; echo alive"))
	if got != "no\nno\nalive\n" {
		t.Errorf("got %q", got)
	}
}
