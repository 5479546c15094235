package worker

import (
	"context"
	"io"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/process"
)

// Run runs a step in a process tree and mount namespace of its own, as far as it has namespaces. When it returns nothing
// is left of either.
func (w *Worker) Run(ctx context.Context, spec *process.Spec, stdout, stderr io.Writer) (process.Result, error) {
	spec.UserXattr, spec.OneOwner = w.userXattr, w.squash
	command := w.command(spec)
	command.Stdout, command.Stderr = stdout, stderr
	p, err := command.Start(ctx)
	if err != nil {
		return process.Result{}, err
	}
	if err := p.Send(spec); err != nil {
		return process.Result{}, p.Fail(err)
	}
	var result process.Result
	if !spec.Probe || spec.Bare == nil {
		if err := p.Receive(&result); err != nil {
			return process.Result{}, p.Fail(err)
		}
	}
	if spec.Probe {
		w.limits.Store(&result.Limits)
	}
	return result, p.Finish()
}

// command is the child that runs a step.
func (w *Worker) command(spec *process.Spec) child.Command {
	if spec.Bare != nil {
		return child.Command{Op: process.BareOp, Program: w.program, Gentle: true}
	}
	namespaces := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if spec.Network {
		namespaces |= unix.CLONE_NEWNET
	}
	if unifiedCgroups() {
		namespaces |= unix.CLONE_NEWCGROUP
	}
	return child.Command{Op: process.Op, Program: w.program, IDs: w.ids, Namespaces: namespaces}
}

func unifiedCgroups() bool {
	var fs unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}
