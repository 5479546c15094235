package sandboxtest

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// listener collects what is sent to a socket in a private directory.
type listener struct {
	path string
	net.Listener
	lines chan string
}

func listen(t testing.TB) *listener {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	out := &listener{path, l, make(chan string, 10)}
	go func() {
		defer close(out.lines)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var buf [256]byte
			n, _ := c.Read(buf[:])
			c.Close()
			out.lines <- string(buf[:n])
		}
	}()
	return out
}

// testSocket talks to a socket of the builder. The client is logger, which uses /dev/log.
func (s *suite) testSocket(t *testing.T) {
	f := s.open(t, Base(t))
	f.settle()
	l := listen(t)
	run := func(user string, uid int, mode int64, text string) {
		t.Helper()
		p := f.sh("stat -c '%F %a %u' /dev/log /run/agent.0; logger " + text)
		p.User = user
		source := sandbox.SocketSource{Path: l.path, UID: uid, GID: 44, Mode: mode}
		p.Mounts = []sandbox.Mount{writable("/dev/log", source), writable("/run/agent.0", source)}
		got := f.run(p)
		want := "socket 600 0\nsocket 600 0\n"
		if uid != 0 && !s.o.OneOwner {
			want = strings.ReplaceAll(want, " 0", " 1000")
		}
		if mode != 0o600 {
			want = strings.ReplaceAll(want, "600", "660")
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	var want []string
	run("", 0, 0o600, "root")
	want = append(want, "root")
	if !s.o.OneOwner {
		run("4711", 1000, 0o600, "stranger")
		run("app", 1000, 0o600, "owner")
		run("4711:44", 1000, 0o660, "group")
		want = append(want, "owner", "group")
	}
	run("", 1000, 0o600, "last")
	for _, w := range append(want, "last") {
		if got := <-l.lines; !strings.Contains(got, ": "+w) {
			t.Errorf("heard %q, want %q", got, w)
		}
	}
	f.unchanged()
	bad := s.open(t, Base(t))
	p := bad.sh("true")
	p.Mounts = []sandbox.Mount{writable("/s", sandbox.SocketSource{Path: t.TempDir(), Mode: 0o600})}
	if err := bad.root.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("a directory as socket: %v", err)
	}
}
