package source_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/source"
)

// sshServer is a real sshd that lets the present user in with one key.
type sshServer struct {
	user, port string
	key        string // file of the user's key, which ssh does not find by itself
	knownHosts string
}

func newSSHServer(t *testing.T) *sshServer {
	t.Helper()
	u, err := user.Current()
	must(t, err)
	dir := t.TempDir()
	s := &sshServer{user: u.Username, key: filepath.Join(dir, "key"), knownHosts: filepath.Join(dir, "known 100% hosts")}
	for _, name := range []string{s.key, filepath.Join(dir, "host")} {
		runProgram(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name)
	}
	public, err := os.ReadFile(s.key + ".pub")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "authorized"), public, 0o600))
	s.port = freePort(t)
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	must(t, err)
	must(t, os.WriteFile(s.knownHosts, fmt.Appendf(nil, "[127.0.0.1]:%s %s", s.port, host), 0o600))
	config := fmt.Sprintf(`ListenAddress 127.0.0.1:%s
HostKey %s/host
AuthorizedKeysFile %[2]s/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
`, s.port, dir)
	must(t, os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600))
	if os.Getuid() == 0 {
		must(t, os.MkdirAll("/run/sshd", 0o755)) // where it separates its privileges
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	start(t, sshd, "-D", "-e", "-f", filepath.Join(dir, "config"))
	waitFor(t, func() bool {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+s.port, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return s
}

// newAgent starts an agent that holds keys.
func newAgent(t *testing.T, keys ...string) func(context.Context) (string, error) {
	socket := filepath.Join(t.TempDir(), "s")
	start(t, "ssh-agent", "-D", "-a", socket)
	waitFor(t, func() bool { _, err := os.Stat(socket); return err == nil })
	for _, key := range keys {
		cmd := exec.CommandContext(t.Context(), "ssh-add", "-q", key)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v\n%s", err, out)
		}
	}
	return func(context.Context) (string, error) { return socket, nil }
}

func runProgram(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// start runs a program until the test ends.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &out
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, &out)
		}
	})
}

func waitFor(t *testing.T, ready func() bool) {
	t.Helper()
	for range 500 {
		if ready() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("not ready after 10 s")
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	return port
}

func TestGitOverSSH(t *testing.T) {
	h := newHistory(t)
	s := newSSHServer(t)
	agent := newAgent(t, s.key)
	address := fmt.Sprintf("ssh://%s@127.0.0.1:%s%s", s.user, s.port, filepath.Join(h.dir, "r"))
	strangers := filepath.Join(t.TempDir(), "strangers")
	must(t, os.WriteFile(strangers, []byte("example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n"), 0o600))
	for _, tt := range []struct {
		name string
		f    source.Fetch
		want string // in the error
	}{
		{"agent", source.Fetch{SSHAgent: agent}, ""},
		{"agent and known host", source.Fetch{SSHAgent: agent, KnownHosts: s.knownHosts}, ""},
		{"other hosts are known", source.Fetch{SSHAgent: agent, KnownHosts: strangers}, "Host key verification failed"},
		{"known hosts are missing", source.Fetch{SSHAgent: agent, KnownHosts: "none"}, "find known hosts"},
		{"no key", source.Fetch{SSHAgent: newAgent(t), KnownHosts: s.knownHosts}, "Permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := source.GitOptions{Remote: address, Ref: "main"}
			if tt.want != "" {
				if got := gitFails(t, o, tt.f); !strings.Contains(got, tt.want) {
					t.Error(got)
				}
				return
			}
			if got := contents(t, gitTree(t, o, tt.f), "f"); got != "second" {
				t.Errorf("got %q", got)
			}
		})
	}
}
