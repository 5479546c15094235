package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/swap"
)

// bare runs a step where there are no namespaces and no mounts: things are put into the root before the step and taken out
// after it, and what the step has started is found by its parents.
type bare struct {
	spec *Spec
	// proc is /proc, and old the root directory, of this process; root is the step's.
	proc, old, root int
	// undos are called in reverse order when no process of the step is left.
	undos []func() error
	// caches are those whose lock is held.
	caches map[string]bool
	mounts []placed
	moved  diff.Moved
	// abandoned says that the builder has gone.
	abandoned atomic.Bool
}

// BareChild is the operation of the child that runs a step without namespaces.
func BareChild(c *child.Conn) error {
	var spec Spec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	b := &bare{spec: &spec, caches: make(map[string]bool)}
	if err := b.open(); err != nil {
		return err
	}
	go b.watch(c)
	resetSignals()
	// Whoever may end this process must not do so before things are in order again.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	unix.Umask(0o022)
	result, err := b.step()
	if err != nil || spec.Probe {
		return err
	}
	return c.Send(result)
}

// open makes this process the parent of all orphans of the step, and keeps hold of what it needs later. Steps cannot look
// into it: without CAP_SYS_PTRACE nobody can.
func (b *bare) open() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("protect process: %w", err)
	}
	var err error
	for _, d := range []struct {
		fd   *int
		path string
	}{{&b.proc, "/proc"}, {&b.old, "/"}, {&b.root, b.spec.Root.Dir}} {
		if *d.fd, err = unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return &os.PathError{Op: "open", Path: d.path, Err: err}
		}
	}
	return nil
}

// watch ends the step when the builder has gone, or wants no more. Then this process, too, will come to its end.
func (b *bare) watch(c *child.Conn) {
	var nothing struct{}
	_ = c.Receive(&nothing) // nothing is ever sent: this is the end of the pipe
	b.abandoned.Store(true)
	for {
		_, _ = b.killOnce() // the other thread tells of errors
		pause()
	}
}

// step runs the step, and puts all in order again.
func (b *bare) step() (result Result, err error) {
	defer func() {
		err = errors.Join(err, b.undo())
		result.Moved = b.moved
	}()
	who, err := b.prepare()
	if err != nil || b.spec.Probe {
		return Result{}, err
	}
	if b.abandoned.Load() {
		return Result{}, errors.New("the builder has gone")
	}
	pid, failed, err := b.start(who)
	if err == nil && failed == nil {
		result, err = reap(pid)
	}
	if failed != nil {
		result = *failed
	}
	return result, errors.Join(err, b.killAll())
}

func (b *bare) undo() error {
	var errs []error
	for len(b.undos) > 0 {
		last := b.undos[len(b.undos)-1]
		b.undos = b.undos[:len(b.undos)-1]
		errs = append(errs, last())
	}
	return errors.Join(errs...)
}

func (b *bare) later(undo func() error) { b.undos = append(b.undos, undo) }

// prepare puts what the step is to see in its place.
func (b *bare) prepare() (identity, error) {
	if b.spec.Network {
		return identity{}, errors.New("a process without network needs a network namespace, which this driver has not: use --isolation=overlay or directory where they work")
	}
	if err := b.lock(); err != nil {
		return identity{}, err
	}
	if err := b.hide(); err != nil {
		return identity{}, err
	}
	var who identity
	err := b.inRoot(func() (err error) {
		who, err = lookUpUser(b.spec.User)
		return err
	})
	if err != nil {
		return who, err
	}
	if err := b.system(); err != nil {
		return who, err
	}
	if b.spec.Bare.Swap != nil {
		guard, err := guardDev()
		if err != nil {
			return who, err
		}
		b.later(guard.restore)
	}
	if err := b.place(); err != nil {
		return who, err
	}
	if b.spec.Bare.Swap == nil {
		return who, nil
	}
	return who, b.exchange(*b.spec.Bare.Swap)
}

// exchange puts the files of the root in the place of this process's own root.
func (b *bare) exchange(s swap.Spec) error {
	s.Stage = b.spec.Root.Dir
	x, err := swap.In(s)
	if x != nil {
		b.later(func() (err error) {
			b.moved, err = x.Out()
			return err
		})
	}
	if err != nil {
		return err
	}
	if err := b.writeHosts(x); err != nil {
		return err
	}
	return diff.Settle(context.Background())
}

// writeHosts writes the further hosts of the step where the container's own file is a mount that could not be covered.
func (b *bare) writeHosts(x *swap.Exchange) error {
	const name = "/etc/hosts"
	if !b.spec.Hosts || !x.Noted(name) {
		return nil
	}
	for _, m := range b.spec.Mounts {
		if m.Target == name && m.File != nil {
			return os.WriteFile(name, m.File.Data, 0)
		}
	}
	return nil
}

// inRoot calls f while absolute paths are those of the step's root.
func (b *bare) inRoot(f func() error) error {
	if err := enterRoot(b.root); err != nil {
		return err
	}
	return errors.Join(f(), enterRoot(b.old))
}

func enterRoot(dir int) error {
	err := unix.Fchdir(dir)
	if err == nil {
		err = unix.Chroot(".")
	}
	if err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return nil
}

// start starts the program, on a thread of its own: what the thread has given up by then this process still needs. The thread
// lives as long as this process, with which the program is to end.
func (b *bare) start(who identity) (pid int, failed *Result, err error) {
	started := func() error {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread() // and never unlocked
			pid, failed, err = b.spec.start(who, true)
			close(done)
			select {}
		}()
		<-done
		return err
	}
	if b.spec.Bare.Swap != nil {
		return pid, failed, errors.Join(started(), enterRoot(b.old))
	}
	err = b.inRoot(started)
	return pid, failed, err
}

// pause is how long one waits for processes that are being killed.
func pause() { _ = syscall.Nanosleep(&syscall.Timespec{Nsec: 2e6}, nil) } // waking up early does no harm
