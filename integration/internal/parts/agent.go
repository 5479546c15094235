package parts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Agent is an ssh-agent that holds one key.
type Agent struct {
	// Socket is where it listens.
	Socket string
	p      *process
}

// StartAgent starts an agent, which keeps its key and its socket below dir.
func StartAgent(ctx context.Context, dir string) (*Agent, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "key")
	if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ssh-keygen: %w\n%s", err, out)
	}
	a := &Agent{Socket: filepath.Join(dir, "agent")}
	var err error
	a.p, err = start(ctx, exec.Command("ssh-agent", "-D", "-a", a.Socket), func(line string) bool {
		return strings.Contains(line, "SSH_AUTH_SOCK")
	})
	if err != nil {
		return nil, err
	}
	add := exec.CommandContext(ctx, "ssh-add", "-q", key)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+a.Socket)
	if out, err := add.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("ssh-add: %w\n%s", err, out), a.Stop())
	}
	return a, nil
}

// Stop ends the agent.
func (a *Agent) Stop() error { return a.p.stop() }
