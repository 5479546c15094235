package sshagent_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/gobuild-dev/gobuild/pkg/sshagent"
)

// keyFile writes a new key, with a passphrase or without.
func keyFile(t *testing.T, passphrase string) (path string, public ssh.PublicKey) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if public, err = ssh.NewPublicKey(pub); err != nil {
		t.Fatal(err)
	}
	return path, public
}

func serve(t *testing.T, dir string, paths ...string) *sshagent.Server {
	t.Helper()
	a, err := sshagent.Open(paths...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Serve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, socket string) agent.ExtendedAgent {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return agent.NewClient(c)
}

// TestKeysSign covers keys from files, and the same through the socket of another agent.
func TestKeysSign(t *testing.T) {
	path, public := keyFile(t, "")
	keys := serve(t, t.TempDir(), path)
	for name, s := range map[string]*sshagent.Server{"keys": keys, "socket": serve(t, t.TempDir(), keys.Socket)} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s.Socket)
			list, err := c.List()
			if err != nil || len(list) != 1 || !bytes.Equal(list[0].Blob, public.Marshal()) {
				t.Fatalf("keys are %v, %v", list, err)
			}
			sig, err := c.Sign(public, []byte("data"))
			if err != nil {
				t.Fatal(err)
			}
			if err := public.Verify([]byte("data"), sig); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAgentCannotBeChanged holds that a step neither removes the user's keys nor leaves its own behind.
func TestAgentCannotBeChanged(t *testing.T) {
	path, public := keyFile(t, "")
	c := dial(t, serve(t, t.TempDir(), path).Socket)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"add": c.Add(agent.AddedKey{PrivateKey: other}), "remove": c.Remove(public), "remove-all": c.RemoveAll(), "lock": c.Lock([]byte("x")),
	} {
		if err == nil {
			t.Errorf("%s was not refused", name)
		}
	}
	if list, err := c.List(); err != nil || len(list) != 1 {
		t.Errorf("keys are %v, %v", list, err)
	}
}

// TestLongDirectory holds that the address of a Unix socket is shorter than paths are.
func TestLongDirectory(t *testing.T) {
	path, _ := keyFile(t, "")
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := sshagent.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Serve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(s.Socket); err != nil || fi.Mode()&os.ModeSocket == 0 {
		t.Errorf("no socket: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.Socket); err == nil {
		t.Error("the socket is still there")
	}
}

func TestCloseEndsConnections(t *testing.T) {
	path, _ := keyFile(t, "")
	a, err := sshagent.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Serve(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.Socket)
	if _, err := c.List(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(); err == nil {
		t.Error("the connection outlives the server")
	}
}

func TestOpenRefuses(t *testing.T) {
	key, _ := keyFile(t, "")
	locked, _ := keyFile(t, "secret")
	socket := serve(t, t.TempDir(), key).Socket
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		paths []string
		want  string
	}{
		"missing":          {[]string{"/nowhere"}, "no such file"},
		"no-key":           {[]string{text}, "no key found"},
		"passphrase":       {[]string{locked}, "passphrase"},
		"socket-and-key":   {[]string{socket, key}, "can't be combined"},
		"two-sockets":      {[]string{socket, socket}, "can't be combined"},
		"endless-key-file": {[]string{"/dev/zero"}, "larger than"},
	} {
		if _, err := sshagent.Open(tt.paths...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s gives %v, want %q", name, err, tt.want)
		}
	}
}
