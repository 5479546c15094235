package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// killAll ends every process that descends from this one, which adopts orphans, and waits for them, so that nothing changes
// files any more.
func (b *bare) killAll() error {
	for {
		found, err := b.killOnce()
		if err != nil {
			return fmt.Errorf("kill processes: %w", err)
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if errors.Is(err, unix.ECHILD) && !found {
				return nil
			}
			if err != nil && !errors.Is(err, unix.ECHILD) && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("wait for processes: %w", err)
			}
			if pid <= 0 {
				break
			}
		}
		if found {
			pause()
		}
	}
}

// killOnce kills the descendants of this process that there are just now, and reports whether there are any.
func (b *bare) killOnce() (found bool, err error) {
	parents, err := b.parents()
	if err != nil {
		return false, err
	}
	self := os.Getpid()
	for pid := range parents {
		if !descends(parents, pid, self) {
			continue
		}
		found = true
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return found, err
		}
	}
	return found, nil
}

// descends reports whether ancestor is one of a process's.
func descends(parents map[int]int, pid, ancestor int) bool {
	for range len(parents) + 1 { // what was read at different times may be a circle
		parent, ok := parents[pid]
		switch {
		case !ok:
			return false
		case parent == ancestor:
			return true
		}
		pid = parent
	}
	return false
}

// parents returns the parent of every process.
func (b *bare) parents() (map[int]int, error) {
	// A directory that was opened for reading has a position, which threads must not share.
	fd, err := unix.Openat(b.proc, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	dir := os.NewFile(uintptr(fd), "/proc")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	parents := make(map[int]int)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if parent, ok := parentOf(fd, name); ok {
			parents[pid] = parent
		}
	}
	return parents, nil
}

// parentOf reads the parent of a process, unless it has gone.
func parentOf(proc int, name string) (int, bool) {
	fd, err := unix.Openat(proc, name+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return 0, false
	}
	// The name of the program is in parentheses, and may have any in it; its state and its parent come after it.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return parent, err == nil
}
