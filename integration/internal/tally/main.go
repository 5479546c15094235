// Command tally runs a command and counts what it and its descendants do: quantities that are the same however busy the machine
// is.
//
//	tally FILE COMMAND [ARGUMENT...]
//
// It ends as the command does, and writes a Count to FILE as JSON. The command is traced (ptrace(2)), which needs no privileges and is
// passed on to children before they run, so that no process is missed.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Count is what a command has done.
type Count struct {
	// Processes were started, the command itself not among them, and Programs executed, by any of them.
	Processes, Programs int
	// Read and Written are the bytes that read(2) and write(2) and their like have moved, in files, pipes and sockets alike.
	Read, Written int64
	// Dirtied are the bytes of pages that were written to in file systems that have a disk.
	Dirtied int64
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: tally FILE COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	t := tracer{seen: map[int]bool{}}
	code, err := t.run(os.Args[2:])
	if err == nil {
		err = t.count.write(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func (c Count) write(file string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

type tracer struct {
	root  int
	seen  map[int]bool // threads that have stopped before
	count Count
}

const options = unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC |
	unix.PTRACE_O_TRACEEXIT | unix.PTRACE_O_EXITKILL

// run returns the exit code of the command.
func (t *tracer) run(args []string) (int, error) {
	runtime.LockOSThread() // the kernel takes requests from the thread that has started the command alone
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	t.root = cmd.Process.Pid
	t.seen[t.root] = true
	var status unix.WaitStatus
	if _, err := unix.Wait4(t.root, &status, unix.WALL, nil); err != nil {
		return 0, fmt.Errorf("wait for start: %w", err)
	}
	if err := unix.PtraceSetOptions(t.root, options); err != nil {
		return 0, fmt.Errorf("trace: %w", err)
	}
	if err := unix.PtraceCont(t.root, 0); err != nil {
		return 0, fmt.Errorf("trace: %w", err)
	}
	for {
		pid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case status.Stopped():
			if err := t.stopped(pid, status); err != nil {
				return 0, err
			}
		case pid == t.root && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == t.root:
			return status.ExitStatus(), nil
		}
	}
}

// stopped counts what a thread has stopped for and lets it go on.
func (t *tracer) stopped(pid int, status unix.WaitStatus) error {
	deliver := 0
	switch cause := status.TrapCause(); {
	case cause == unix.PTRACE_EVENT_FORK || cause == unix.PTRACE_EVENT_VFORK:
		t.count.Processes++
	case cause == unix.PTRACE_EVENT_CLONE: // a thread
	case cause == unix.PTRACE_EVENT_EXEC:
		t.count.Programs++
	case cause == unix.PTRACE_EVENT_EXIT:
		if pid == t.root {
			if err := t.count.readIO(pid); err != nil {
				return err
			}
		}
	case !t.seen[pid] && status.StopSignal() == unix.SIGSTOP: // how a traced thread begins
	default:
		deliver = int(status.StopSignal())
	}
	t.seen[pid] = true
	if err := unix.PtraceCont(pid, deliver); err != nil && !errors.Is(err, unix.ESRCH) { // it was killed meanwhile
		return fmt.Errorf("trace: %w", err)
	}
	return nil
}

// readIO reads what a process and those that it has waited for have moved (proc_pid_io(5)).
func (c *Count) readIO(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return err
	}
	fields := map[string]*int64{"rchar": &c.Read, "wchar": &c.Written, "write_bytes": &c.Dirtied}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if to := fields[name]; to != nil {
			if *to, err = strconv.ParseInt(value, 10, 64); err != nil {
				return err
			}
		}
	}
	return nil
}
