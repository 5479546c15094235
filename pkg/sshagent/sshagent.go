// Package sshagent gives builds the use of ssh keys without the keys: it serves an agent
// (https://datatracker.ietf.org/doc/html/draft-ietf-sshm-ssh-agent) on a socket of its own, which signs with keys that were read from files, or
// passes requests on to another agent.
package sshagent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// maxKey bounds what is read of a key file, in bytes.
const maxKey = 100 << 10

// Agent can be served. It is safe for concurrent use.
type Agent struct {
	socket string // of another agent
	keys   agent.Agent
}

// Open opens the agent that paths stand for: the socket of one that runs, or files with private keys without
// passphrases, as OpenSSH writes them.
func Open(paths ...string) (*Agent, error) {
	a := &Agent{keys: agent.NewKeyring()}
	for _, p := range paths {
		fi, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("open ssh agent: %w", err)
		}
		if fi.Mode()&os.ModeSocket != 0 {
			if len(paths) > 1 {
				return nil, fmt.Errorf("open ssh agent: %q is a socket and can't be combined with other sockets or keys", p)
			}
			a.socket = p
			continue
		}
		if err := a.add(p); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// add adds the key in a file.
func (a *Agent) add(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read ssh key: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return fmt.Errorf("read ssh key: %w", err)
	}
	if len(data) > maxKey {
		return fmt.Errorf("read ssh key: %q is larger than %d KiB", path, maxKey>>10)
	}
	key, err := ssh.ParseRawPrivateKey(data)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return fmt.Errorf("read ssh key %q: it has a passphrase; add it to an agent and give the agent's socket", path)
	}
	if err != nil {
		return fmt.Errorf("read ssh key %q: %w", path, err)
	}
	if err := a.keys.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return fmt.Errorf("read ssh key %q: %w", path, err)
	}
	return nil
}

// Server serves one agent until it is closed.
type Server struct {
	// Socket is the path of the socket. Only the owner of the directory that it is in can reach it.
	Socket string

	agent    *Agent
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil when closed
}

// Serve serves a on a new socket in dir, until the server is closed, whatever becomes of ctx. The caller closes it.
func (a *Agent) Serve(ctx context.Context, dir string) (*Server, error) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	s := &Server{Socket: filepath.Join(dir, "agent-"+hex.EncodeToString(id[:])), agent: a, conns: map[net.Conn]bool{}}
	var err error
	if s.listener, err = listen(ctx, s.Socket); err != nil {
		return nil, fmt.Errorf("serve ssh agent: %w", err)
	}
	s.work.Go(s.accept)
	return s, nil
}

// maxSocketPath is how long the address of a Unix socket may be (unix(7)).
const maxSocketPath = 107

// listen listens on a socket, however long its path is.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if len(path) <= maxSocketPath {
		return (&net.ListenConfig{}).Listen(ctx, "unix", path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the address ends with dir
	return l, nil
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		if !s.track(c) {
			c.Close()
			return
		}
		s.work.Go(func() {
			defer s.untrack(c)
			s.agent.serve(c)
		})
	}
}

// track remembers a connection, for Close; false when that was called already.
func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) untrack(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.Close()
}

// serve answers the requests of one client. How it ends concerns the client alone.
func (a *Agent) serve(client net.Conn) {
	if a.socket == "" {
		_ = agent.ServeAgent(readOnly{a.keys}, client)
		return
	}
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "unix", a.socket)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = agent.ServeAgent(readOnly{agent.NewClient(conn)}, client)
}

// Close ends the server and all connections, and removes the socket.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.work.Wait()
	if e := os.Remove(s.Socket); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// errReadOnly is the answer to those who want to change the agent.
var errReadOnly = errors.New("agent is read-only") //nolint:gochecknoglobals // a sentinel

// readOnly lists keys and signs, and refuses everything else: a build has no business with an agent's keys.
type readOnly struct{ agent.Agent }

func (readOnly) Add(agent.AddedKey) error   { return errReadOnly }
func (readOnly) Remove(ssh.PublicKey) error { return errReadOnly }
func (readOnly) RemoveAll() error           { return errReadOnly }
func (readOnly) Lock([]byte) error          { return errReadOnly }
func (readOnly) Unlock([]byte) error        { return errReadOnly }
