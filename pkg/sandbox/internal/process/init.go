package process

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
)

// Child is the operation of the child.
func Child(c *child.Conn) error {
	var spec Spec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	go dieWithParent(c)
	resetSignals()
	unix.Umask(0o022)
	v, err := enter(&spec)
	if err != nil {
		return err
	}
	if spec.Probe {
		return c.Send(Result{Limits: spec.limits()})
	}
	pid, result, marked, err := spec.startStep(v.user)
	if err != nil {
		return err
	}
	if result == nil {
		got, err := reap(pid)
		if err != nil {
			return err
		}
		result = &got
	}
	if err := killAll(); err != nil {
		return err
	}
	result.Owners = marked()
	if err := v.stubs.remove(); err != nil {
		return err
	}
	return c.Send(*result)
}

// dieWithParent ends this process, and with it its PID namespace, when the builder has gone.
func dieWithParent(c *child.Conn) {
	var nothing struct{}
	_ = c.Receive(&nothing) // nothing is ever sent: this is the end of the pipe
	os.Exit(1)
}

// resetSignals gives signals that the builder was started to ignore, as by nohup, their default action
// in the step: a handler, unlike an ignored signal, does not outlive the execution of a program.
func resetSignals() {
	for s := syscall.Signal(1); s < 32; s++ {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// reap waits for the program, and for the orphans that end before it.
func reap(pid int) (Result, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return Result{}, fmt.Errorf("wait for process: %w", err)
		case got != pid:
			// An orphan has ended.
		case status.Signaled():
			return Result{Code: 128 + int(status.Signal())}, nil
		case status.Exited():
			return Result{Code: status.ExitStatus()}, nil
		}
	}
}

// killAll ends every other process of the PID namespace and waits for them, so that nothing changes files any
// more.
func killAll() error {
	for {
		if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill processes: %w", err)
		}
		_, err := unix.Wait4(-1, nil, 0, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for processes: %w", err)
		}
	}
}
