// Package step turns the processes of sandbox's contract into those that a worker runs.
package step

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// defaultHostname is the name of the host that steps see, the one that BuildKit gives.
const defaultHostname = "buildkitsandbox"

// Run runs p in the root that spec describes; it fills in the rest of spec. It returns the files whose time of change it has
// set itself.
func Run(ctx context.Context, w *worker.Worker, spec process.Spec, p sandbox.Process) (diff.Moved, error) {
	if len(p.Args) == 0 {
		return nil, errors.New("run process: no program")
	}
	hostname := p.Hostname
	if hostname == "" {
		hostname = defaultHostname
	}
	spec.Hostname = hostname
	if err := addMounts(ctx, w, &spec, p); err != nil {
		return nil, fmt.Errorf("run process: %w", err)
	}
	spec.Args, spec.Env, spec.Dir, spec.User = p.Args, p.Env, p.Dir, p.User
	spec.Hosts = len(p.Hosts) > 0
	spec.Network, spec.Insecure = p.Network == sandbox.NetworkNone, p.Insecure
	stdout, stderr := streams(p)
	result, err := w.Run(ctx, &spec, stdout, stderr)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("run process: %w", err)
	case result.Reason != "":
		return nil, fmt.Errorf("%s: %w", result.Reason, &sandbox.ExitError{Code: result.Code})
	case result.Code != 0:
		return nil, &sandbox.ExitError{Code: result.Code}
	}
	return result.Moved, nil
}

// streams returns writers of which only one is used at a time. The same writer twice stays one, so that
// both streams share a pipe and keep their order.
func streams(p sandbox.Process) (stdout, stderr io.Writer) {
	mu := new(sync.Mutex)
	stdout = &lockedWriter{mu, orDiscard(p.Stdout)}
	if p.Stderr == p.Stdout {
		return stdout, stdout
	}
	return stdout, &lockedWriter{mu, orDiscard(p.Stderr)}
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
