// Package parts starts the real programs that the integration tests and the benchmark build against: a registry,
// BuildKit, and the base images. All of them listen on the loopback interface alone, keep
// everything below a folder that their caller gives, and end when they are stopped or when the process that started
// them dies.
package parts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a part may take to start or to stop. Two busy cores need a few seconds.
const patience = 30 * time.Second

// process is a program that runs in the background.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed
	log  tail
}

// start runs a program until stop. It returns when line accepts a line of its output, and
// fails when the program ends before that.
func start(ctx context.Context, cmd *exec.Cmd, line func(string) bool) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	if err := p.launch(); err != nil {
		r.Close()
		return nil, err
	}
	ready := make(chan struct{})
	go p.read(r, line, ready)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-ready:
		return p, nil
	case <-p.done:
		err = p.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, errors.Join(fmt.Errorf("start %s: %w\n%s", filepath.Base(cmd.Path), err, p.log.String()), p.stop())
}

// launch starts the program on a thread that lives as long as it: the kernel sends the signal for the death
// of the parent when the thread that forked ends, not the process.
func (p *process) launch() error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	return <-started
}

func (p *process) read(r io.ReadCloser, line func(string) bool, ready chan struct{}) {
	defer r.Close()
	br := bufio.NewReader(r)
	for found := false; ; {
		s, err := br.ReadString('\n')
		p.log.add(s)
		if !found && line(s) {
			found = true
			close(ready)
		}
		if err != nil {
			return
		}
	}
}

// stop ends the program, with patience before force. It may be called again.
func (p *process) stop() error {
	pid := p.cmd.Process.Pid
	select {
	case <-p.done:
	default:
		if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stop %s: %w", filepath.Base(p.cmd.Path), err)
		}
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill %s: %w", filepath.Base(p.cmd.Path), err)
		}
		<-p.done
	}
	return nil
}

// tail keeps the last lines of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	const keep = 200
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lines = append(t.lines, line); len(t.lines) > keep {
		t.lines = slices.Delete(t.lines, 0, len(t.lines)-keep)
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "")
}

// RemoveAll unmounts what is mounted below dir and removes it.
func RemoveAll(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines) // later mounts first
	for _, l := range lines {
		if f := strings.Fields(l); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount %q: %w", f[4], err)
			}
		}
	}
	return os.RemoveAll(dir)
}
