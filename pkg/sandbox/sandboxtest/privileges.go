package sandboxtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

func (s *suite) testPrivileges(t *testing.T) {
	s.sub(t, "hosts", s.testHosts)
	s.sub(t, "insecure", s.testInsecure)
	s.sub(t, "devices", s.testDevices)
	s.sub(t, "made-nodes", s.testMadeNodes)
}

// testMadeNodes holds that a node that a step makes, wherever it may, opens no device of the machine.
func (s *suite) testMadeNodes(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	p := f.sh(`for dir in /tmp /dev /dev/shm /t; do
	mknod $dir/node c 1 3 2>/dev/null || continue
	(: < $dir/node) 2>/dev/null && echo "$dir: opened"
done
: > /dev/null && head -c 1 /dev/zero | wc -c; rm -f /tmp/node`)
	p.Mounts = []sandbox.Mount{{Target: "/t", Source: sandbox.TmpfsSource{}}}
	if got := f.run(p); got != "1\n" {
		t.Errorf("got %q", got)
	}
}

func (s *suite) testHosts(t *testing.T) {
	f := s.open(t, Base(t))
	p := f.sh("cat /etc/hosts")
	p.Hostname, p.Hosts = "here", []string{"10.0.0.1 a.example", "::2 b"}
	want := "127.0.0.1\tlocalhost here\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\ta.example\n::2\tb\n"
	if got := f.run(p); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func (s *suite) testInsecure(t *testing.T) {
	f := s.open(t, Base(t))
	run := func(script string) string {
		p := f.sh(script)
		p.Insecure = true
		return f.run(p)
	}
	// What a user namespace gives its first process is the same everywhere.
	const caps = "grep -E 'Cap(Prm|Eff|Bnd|Amb|Inh)' /proc/self/status | awk '{print $2}' | uniq"
	all := run(caps)
	if strings.Count(all, "\n") != 1 || len(all) != 17 || strings.Trim(all[6:], "fedcb\n") != "" {
		t.Errorf("capabilities %q", all)
	}
	if !s.o.Unsupervised {
		p := f.sh(caps)
		p.Insecure, p.User = true, "app"
		if got := f.run(p); got != all {
			t.Errorf("another user has %q, want %q", got, all)
		}
	}
	if got := run("mount -t tmpfs x /tmp; mkdir /tmp/x; ls /tmp; umount /tmp"); got != "x\n" {
		t.Errorf("mount: %q", got)
	}
	if got := run("grep -cE '^[^ ]+ /proc/(sys|keys|kcore|bus) ' /proc/mounts || :"); got != "0\n" {
		t.Errorf("hidden in /proc: %q", got)
	}
	if got := run("grep ' /sys ' /proc/mounts | grep -c ' rw,' || :"); got != "1\n" && !Ordinary() {
		t.Errorf("writable /sys: %q", got)
	}
	for _, name := range builderNodes(t) {
		if got := run("[ -c " + name + " ] || [ -b " + name + " ] || echo missing"); got != "" {
			t.Errorf("device %s: %s", name, got)
		}
	}
	f.settle()
	if got := f.run(f.sh("grep CapEff /proc/self/status")); got != "CapEff:\t00000000a80425fb\n" {
		t.Errorf("the next process has %q", got)
	}
}

// builderNodes returns some devices that the builder has and that ordinary steps do not see.
func builderNodes(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob("/dev/*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, name := range all {
		fi, err := os.Lstat(name)
		usual := slices.Contains([]string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}, filepath.Base(name))
		if err == nil && fi.Mode()&os.ModeDevice != 0 && !usual && len(out) < 5 {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		t.Fatal("the builder has no devices")
	}
	return out
}

func (s *suite) testDevices(t *testing.T) {
	d := s.newDriver(t)
	f := openWith(t, d, Base(t))
	f.settle()
	node := builderNodes(t)[0]
	p := f.sh("ls " + node + " 2>/dev/null || echo none")
	if got := f.run(p); got != "none\n" {
		t.Errorf("without asking: %q", got)
	}
	p = f.sh("[ -c " + node + " ] || [ -b " + node + " ]; echo ok")
	p.Devices = []string{node}
	if got := f.run(p); got != "ok\n" {
		t.Errorf("%s: %q", node, got)
	}
	f.unchanged()
	for path, want := range map[string]string{"/dev/nope": "no such file", "/etc/passwd": "is not a device"} {
		bad := openWith(t, d, Base(t))
		p := bad.sh("true")
		p.Devices = []string{path}
		err := bad.root.Run(t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(want, "no such") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
