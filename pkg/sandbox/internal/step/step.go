// Package step turns the processes of sandbox's contract into those that a worker runs.
package step

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// defaultHostname is the name of the host that steps see, the one that BuildKit gives.
const defaultHostname = "buildkitsandbox"

// Run runs p in the root that spec describes; it fills in the rest of spec. What it returns is known when there is no error.
func Run(ctx context.Context, w *worker.Worker, spec process.Spec, p sandbox.Process) (process.Result, error) {
	if len(p.Args) == 0 {
		return process.Result{}, errors.New("run process: no program")
	}
	hostname := p.Hostname
	if hostname == "" {
		hostname = defaultHostname
	}
	spec.Hostname = hostname
	if err := addMounts(ctx, w, &spec, p); err != nil {
		return process.Result{}, fmt.Errorf("run process: %w", err)
	}
	spec.Args, spec.Env, spec.Dir, spec.User = p.Args, p.Env, p.Dir, p.User
	spec.Hosts = len(p.Hosts) > 0
	spec.Network, spec.Insecure = p.Network == sandbox.NetworkNone, p.Insecure
	stdout, stderr := streams(p)
	result, err := w.Run(ctx, &spec, stdout, stderr)
	switch {
	case ctx.Err() != nil:
		return process.Result{}, context.Cause(ctx)
	case err != nil:
		return process.Result{}, fmt.Errorf("run process: %w", err)
	case result.Reason != "":
		return process.Result{}, fmt.Errorf("%s: %w", result.Reason, &sandbox.ExitError{Code: result.Code})
	case result.Code != 0:
		return process.Result{}, &sandbox.ExitError{Code: result.Code}
	}
	return result, nil
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
