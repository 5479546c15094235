package sandboxtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// asUser is what a test program is started with to run tests as an ordinary user.
const asUser = "sandboxtest-as-user"

// RunAs runs tests of the calling test program, those that pattern matches, as an ordinary user: as nobody, whom
// /etc/subuid gives a range of ids there, or as a user who has but one id. The calling test must be run
// as root.
func RunAs(t *testing.T, subordinate bool, pattern string) {
	t.Helper()
	who := "4242"
	if subordinate {
		who = "65534"
	}
	runAs(t, who, pattern, "")
}

// RunSupervised is RunAs for a user who has but one id, and whose system calls somebody else supervises, so that the builder cannot
// supervise those of steps.
func RunSupervised(t *testing.T, pattern string) {
	t.Helper()
	runAs(t, "4242", pattern, supervised)
}

// supervised asks asUserMain for a supervisor.
const supervised = "supervised"

func runAs(t *testing.T, who, pattern, how string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can become another user")
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// Where Go puts programs of tests only their owner can reach them.
	dir, err := os.MkdirTemp("", "as-user-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, tmp := filepath.Join(dir, "program.test"), filepath.Join(dir, "tmp")
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.WriteFile(program, self, 0o755), os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Args = []string{asUser, program, who, pattern, how}
	cmd.Dir = tmp
	cmd.Env = []string{"TMPDIR=" + tmp, "PATH=/usr/bin:/bin:/usr/sbin:/sbin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), "\nok ") && !strings.Contains(string(out), "PASS\n") || err != nil {
		t.Errorf("as user %s: %v\n%s", who, err, out)
	}
}

// asUserMain is the main program of RunAs: it prepares /etc/subuid, becomes the user and runs the tests.
func asUserMain() {
	if os.Args[0] != asUser {
		return
	}
	program, who, pattern := os.Args[1], os.Args[2], os.Args[3]
	if os.Args[4] == supervised {
		if err := supervise(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := becomeUser(who); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	err := syscall.Exec(program, []string{program, "-test.run=" + pattern, "-test.v"}, os.Environ())
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func becomeUser(who string) error {
	uid := 4242
	ids := "other:100000:65536\n"
	if who == "65534" {
		uid, ids = 65534, "nobody:200000:65536\n"
	}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		f, err := os.CreateTemp("", "ids-*")
		if err != nil {
			return err
		}
		if _, err := f.WriteString(ids); err != nil {
			return err
		}
		if err := f.Chmod(0o644); err != nil {
			return err
		}
		f.Close()
		if err := unix.Mount(f.Name(), name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", name, err)
		}
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(uid); err != nil {
		return err
	}
	return syscall.Setuid(uid)
}

// supervise installs a filter that lets every call be done, and that has a listener, which stays open in what this process
// becomes: there can be no second one.
func supervise() error {
	runtime.LockOSThread()
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	program := unix.SockFprog{Len: 1, Filter: &allow}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("supervise process: %w", errno)
	}
	if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("supervise process: %w", err)
	}
	return nil
}

// Ordinary reports whether the tests run as an ordinary user.
func Ordinary() bool { return os.Getuid() != 0 }
