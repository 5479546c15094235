package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a build has taken.
type usage struct {
	wall time.Duration
	// cpu is the time of all processes, that of the commands of the Dockerfile included: it is the same for every
	// builder.
	cpu time.Duration
	// peak is the most memory that the builder's own processes have had together, in bytes: the sum of their
	// proportional set sizes, in which a page that two of them share counts once.
	peak int64
	// pushed is the size of the image's compressed layers, in bytes.
	pushed int64
}

// clockTick is the unit of times in /proc, as the kernel gives it to programs on every architecture that Go knows.
const clockTick = 10 * time.Millisecond

// processorTime is what a process and those that it has waited for have used, and 0 for process 0.
func processorTime(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * clockTick
	}
	return sum, nil
}

// stat are the fields of /proc/PID/stat after the name, the state first.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 15 {
		return nil, fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields, nil
}

// memoryWatch looks at processes again and again.
type memoryWatch struct {
	programs []string
	roots    []int
	end      chan struct{}
	peak     chan int64
}

// sampling is how often memory is looked at. A look takes 1 ms on an idle machine, and more where many processes run.
const sampling = 50 * time.Millisecond

// watchMemory watches those descendants of roots, and the roots, that run one of the programs.
func watchMemory(programs []string, roots ...int) *memoryWatch {
	w := &memoryWatch{programs: programs, roots: roots, end: make(chan struct{}), peak: make(chan int64)}
	go w.watch()
	return w
}

func (w *memoryWatch) watch() {
	var peak int64
	tick := time.NewTicker(sampling)
	defer tick.Stop()
	for {
		peak = max(peak, w.look())
		select {
		case <-w.end:
			w.peak <- peak
			return
		case <-tick.C:
		}
	}
}

// stop ends the watch and returns the highest sum.
func (w *memoryWatch) stop() int64 {
	close(w.end)
	return <-w.peak
}

// look sums up what the processes have now. Those that end meanwhile count as nothing.
func (w *memoryWatch) look() (sum int64) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	parents := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields, err := stat(pid); err == nil {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	for pid, parent := range parents {
		if w.descends(pid, parents) && w.runs(pid) && !shareMemory(pid, parent) {
			sum += proportionalSize(pid)
		}
	}
	return sum
}

func (w *memoryWatch) descends(pid int, parents map[int]int) bool {
	for ; pid > 1; pid = parents[pid] {
		if slices.Contains(w.roots, pid) {
			return true
		}
	}
	return false
}

func (w *memoryWatch) runs(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && slices.Contains(w.programs, filepath.Base(strings.TrimSuffix(exe, " (deleted)")))
}

// shareMemory reports whether two processes have one address space, as a parent and a child have between vfork and exec: each
// would be said to have all of it.
func shareMemory(a, b int) bool {
	const kcmpVM = 1 // linux/kcmp.h
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && order == 0
}

func proportionalSize(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}
