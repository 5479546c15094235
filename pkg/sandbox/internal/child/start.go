package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/idmap"
)

// waitForIDs is the name of the operation that comes before another one in a namespace whose ids are
// mapped by helpers.
const waitForIDs = "wait-for-ids"

// Command is a child to be.
type Command struct {
	// Op is the operation that Main is asked for.
	Op string
	// Program is what the child runs; nil, or where it cannot be executed, is this program.
	Program *Program
	// Namespaces are the CLONE_NEW flags of the namespaces that the child gets of its own.
	Namespaces uintptr
	// IDs, when not nil, asks for a user namespace, too.
	IDs *idmap.Map
	// Gentle says that the child is not to be killed: when its pipe ends, it has to end by itself after it has put things in
	// order. It is killed only if that takes longer than patience.
	Gentle bool
	// Stdin, Stdout and Stderr are as in exec.Cmd, but that what the child writes to a nil Stderr is added to
	// its error.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// patience is how long a gentle child may take to put things in order.
const patience = time.Minute

// Process is a running child, to be waited for with Wait.
type Process struct {
	*Conn
	cmd      *exec.Cmd
	gentle   bool
	cause    func() error
	in, out  *os.File
	stderr   bytes.Buffer
	reported error
}

// Start starts the child. When ctx is done it is killed, and with it everything in a PID namespace that is
// its own. It is also told to end by the end of its pipe when this process dies.
func (c Command) Start(ctx context.Context) (*Process, error) {
	p := &Process{gentle: c.Gentle, cause: func() error { return context.Cause(ctx) }}
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("start child: %w", err)
	}
	defer childOut.Close()
	p.in, p.out = in, out
	p.Conn = newConn(out, in)

	if err := c.execute(ctx, p, []*os.File{childIn, childOut}); err != nil {
		in.Close()
		out.Close()
		return nil, fmt.Errorf("start child: %w", err)
	}
	if c.IDs != nil && c.IDs.Helpers {
		if err := p.giveIDs(ctx, c.IDs); err != nil {
			p.Kill()
			return nil, errors.Join(err, p.wait())
		}
	}
	return p, nil
}

// execute starts the process of p with its ends of the pipes.
func (c Command) execute(ctx context.Context, p *Process, pipes []*os.File) error {
	if program := c.Program.open(); program != nil {
		// The path is looked up in the child, where it is the file that is given to it.
		p.cmd = c.command(ctx, p, fmt.Sprintf("/proc/self/fd/%d", fdProgram), append(pipes, program))
		if err := p.cmd.Start(); err == nil || !cannotExecute(err) {
			return err
		}
	}
	p.cmd = c.command(ctx, p, executable(), pipes)
	err := p.cmd.Start()
	if err == nil && c.Program != nil {
		c.Program.refused.Store(true)
	}
	return err
}

func (c Command) command(ctx context.Context, p *Process, path string, files []*os.File) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path)
	cmd.Args = []string{name, build, c.Op}
	cmd.Env = []string{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	if c.Stderr == nil {
		cmd.Stderr = &p.stderr
	}
	cmd.ExtraFiles = files
	cmd.SysProcAttr = c.attributes(cmd)
	if c.Gentle {
		cmd.Cancel = func() error { return ignoreClosed(p.in.Close()) }
		cmd.WaitDelay = patience
	}
	return cmd
}

func (c Command) attributes(cmd *exec.Cmd) *syscall.SysProcAttr {
	// A session of its own keeps a terminal's signals away from the child: it is ctx that ends it.
	attr := &syscall.SysProcAttr{Setsid: true, Cloneflags: c.Namespaces}
	switch {
	case c.IDs == nil:
	case c.IDs.Helpers:
		attr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.Args = []string{name, build, waitForIDs, c.Op}
	default:
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings, attr.GidMappings = c.IDs.UIDs, c.IDs.GIDs
		attr.GidMappingsEnableSetgroups = c.IDs.SetGroups
	}
	return attr
}

// giveIDs has the ids of a child mapped, and lets it go on.
func (p *Process) giveIDs(ctx context.Context, m *idmap.Map) error {
	if err := m.Write(ctx, p.cmd.Process.Pid); err != nil {
		return err
	}
	// One byte, because the child reads no more of what is for the program that it becomes.
	if _, err := p.in.Write([]byte{0}); err != nil {
		return fmt.Errorf("start child: %w", err)
	}
	return nil
}

// Kill ends the child at once, or lets a gentle one end. It must still be waited for.
func (p *Process) Kill() {
	if p.gentle {
		_ = p.in.Close() // it may be closed
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended by itself
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Receive is Conn.Receive, whose error Finish will return again.
func (p *Process) Receive(v any) error {
	err := p.Conn.Receive(v)
	var e *Error
	if errors.As(err, &e) {
		p.reported = e
	}
	return err
}

// Finish waits for a child that has nothing more to say. Its error is the one that the child
// reported; when it was killed because ctx was done, the cause of that.
func (p *Process) Finish() error {
	var e envelope
	if err := p.Conn.in.Decode(&e); err == nil && e.Error != nil {
		p.reported = e.Error
	}
	err := p.wait()
	switch {
	case err == nil:
		return p.reported
	case p.cause() != nil:
		return p.cause()
	case p.reported != nil:
		return p.reported
	}
	return err
}

// Fail ends a child with which something went wrong, as err says, and returns the best that is known
// about it: why ctx is done, what the child has reported, how it died, or err.
func (p *Process) Fail(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		p.Kill() // otherwise it is dying of itself
	}
	ended := p.Finish()
	switch {
	case p.cause() != nil:
		return p.cause()
	case p.reported != nil:
		return p.reported
	case ended != nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return ended
	}
	return err
}

// wait reaps the child.
func (p *Process) wait() error {
	err := p.cmd.Wait()
	p.in.Close()
	p.out.Close()
	if err != nil {
		return fmt.Errorf("child ended: %w%s", err, lastLines(p.stderr.Bytes()))
	}
	return nil
}

// lastLines returns the end of what a child wrote before it died.
func lastLines(text []byte) string {
	const enough = 2000
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return ""
	}
	if len(text) > enough {
		text = text[len(text)-enough:]
	}
	return ": " + string(text)
}

// executable returns a path to this program. For one on a disk the path by which it was started is better than /proc/self/exe: the
// child then runs from a mount of its own mount namespace, which it can make read-only for the step.
func executable() string {
	const self = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return self
	}
	var a, b unix.Stat_t
	if unix.Stat(self, &a) != nil || unix.Stat(path, &b) != nil || a.Ino != b.Ino || a.Dev != b.Dev {
		return self // it was replaced or removed since
	}
	return path
}

// prepare is the first thing in a child.
func prepare() error {
	runtime.LockOSThread()
	// The kernel names a process after the path of its program, which may be a number.
	if err := setName(processName); err != nil {
		return fmt.Errorf("start child: set name: %w", err)
	}
	// Whatever else was inherited is not for the programs that the child starts.
	if err := unix.CloseRange(fdIn, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("start child: close inherited files: %w", err)
	}
	return nil
}

// setName sets the name of this thread, which for the first one is what tools show as that of the process.
func setName(name string) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(p)), 0, 0, 0)
}

// becomeRoot waits until the ids of this process's user namespace are mapped, and starts the program anew:
// with an id that is not mapped it had to lose its capabilities, as root it gains them again.
func becomeRoot(_ *Conn, args []string) error {
	var b [1]byte
	if _, err := unix.Read(fdIn, b[:]); err != nil {
		return fmt.Errorf("start child: wait for ids: %w", err)
	}
	for _, fd := range []int{fdIn, fdOut} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("start child: %w", err)
		}
	}
	path := executable()
	if err := unix.Exec(path, append([]string{name, build}, args...), nil); err != nil {
		return fmt.Errorf("start child: execute %s: %w", path, err)
	}
	return nil
}
