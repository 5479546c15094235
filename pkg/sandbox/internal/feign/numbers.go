package feign

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// numbers tells by which numbers /proc knows threads. They are those of this PID namespace, unless /proc is the builder's own: where
// a container hides parts of its /proc, no other may be mounted, and there threads have the numbers of the container.
type numbers struct {
	// foreign says that /proc is another PID namespace's.
	foreign bool
}

// nobody is a number that no thread has.
const nobody = 0

// init finds out what /proc is mounted.
func (n *numbers) init() error {
	self, err := readlink("/proc/self")
	if err != nil {
		return err
	}
	pid := os.Getpid()
	n.foreign = self != strconv.Itoa(pid)
	if n.foreign && strconv.Itoa(n.of(pid)) != self {
		return errors.New("/proc is not that of the step, and processes cannot be found in it")
	}
	return nil
}

// of returns the number that a thread, which this process knows as pid, has in /proc, or nobody.
func (n *numbers) of(pid int) int {
	if !n.foreign {
		return pid
	}
	fd, err := openThread(pid)
	if err != nil {
		return search(pid)
	}
	defer unix.Close(fd)
	// Of an open process, /proc says which number it has in the PID namespace that /proc shows.
	number, err := strconv.Atoi(field("/proc/self/fdinfo/"+strconv.Itoa(fd), "Pid"))
	if err != nil || number < 0 {
		return nobody
	}
	return number
}

// openThread opens a thread. Before Linux 6.9 that can only be the first one of a process.
func openThread(pid int) (int, error) {
	const anyThread = unix.O_EXCL // PIDFD_THREAD
	fd, err := unix.PidfdOpen(pid, anyThread)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.PidfdOpen(pid, 0)
	}
	return fd, err
}

// search looks for a thread of this PID namespace, or one below it, among all threads that /proc shows.
func search(pid int) int {
	own, err := readlink("/proc/self/ns/pid")
	if err != nil {
		return nobody
	}
	tasks, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*") // the pattern is well-formed
	for _, task := range tasks {
		// The numbers that it has, in the namespace of /proc and in those that are nested in it.
		has := strings.Fields(field(task+"/status", "NSpid"))
		if len(has) < 2 || has[len(has)-1] != strconv.Itoa(pid) {
			continue
		}
		if in, err := readlink(task + "/ns/pid"); err != nil || in != own {
			continue
		}
		if number, err := strconv.Atoi(has[0]); err == nil {
			return number
		}
	}
	return nobody
}

// field returns what a file of /proc says in the line that begins with name, or "".
func field(file, name string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut("\n"+string(data), "\n"+name+":\t")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}
