package feign

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNumbersOfForeignProc looks for threads in a /proc that knows them by other numbers. Two PID namespaces that have the same numbers
// in them do so at the same time.
func TestNumbersOfForeignProc(t *testing.T) {
	self, err := readlink("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	if self != strconv.Itoa(os.Getpid()) {
		findThreads(t)
		waitForEnd()
		return
	}
	var n numbers
	if err := n.init(); err != nil || n.foreign || n.of(os.Getpid()) != os.Getpid() {
		t.Errorf("here: %v, %+v", err, n)
	}
	// The first is there until the second has looked.
	first, second := inNewNamespace(t), inNewNamespace(t)
	out, err := first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	if text, err := second.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
}

// inNewNamespace runs this test in a PID namespace of its own.
func inNewNamespace(t *testing.T) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^TestNumbersOfForeignProc$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	return cmd
}

func waitForEnd() { _, _ = os.Stdin.Read(make([]byte, 1)) }

// findThreads compares ways of finding the threads of this process.
func findThreads(t *testing.T) {
	var n numbers
	if err := n.init(); err != nil || !n.foreign {
		t.Fatalf("%v, %+v", err, n)
	}
	end := make(chan struct{})
	defer close(end)
	for range 4 { // threads
		go func() {
			runtime.LockOSThread()
			<-end
		}()
	}
	var here []int
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		has := strings.Fields(field(task+"/status", "NSpid"))
		number, err := strconv.Atoi(has[len(has)-1])
		if err != nil {
			t.Fatal(err)
		}
		here = append(here, number)
		for way, got := range map[string]int{"opened": n.of(number), "searched": search(number)} {
			if strconv.Itoa(got) != filepath.Base(task) {
				t.Errorf("%s: %d is thread %d, which is %s", way, number, got, filepath.Base(task))
			}
		}
	}
	if len(here) < 2 || !slices.Contains(here, os.Getpid()) {
		t.Errorf("threads %v", here)
	}
	if n.of(1<<21) != nobody {
		t.Error("somebody is found who is not there")
	}
}
