package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes of shells for programs that cannot be started.
const (
	codeCannotRun = 126
	codeNotFound  = 127
)

// start starts the program of the step in the root, which is this process's already. When it is the step's own
// fault that there is no program it returns a result. change says that the program is to be run with the ids of that user.
func (s *Spec) start(who identity, change bool) (pid int, failed *Result, err error) {
	if err := s.enterDir(who); err != nil {
		return 0, nil, err
	}
	env := environment(s.Env, who.home)
	path, err := lookUpProgram(s.Args[0], env)
	if err != nil {
		return 0, notStarted(err), nil
	}
	caps, err := s.limit()
	if err != nil {
		return 0, nil, err
	}
	if err := s.confine(who); err != nil {
		return 0, nil, err
	}
	giveStreams(who.uid)
	null, err := os.OpenFile("/dev/null", os.O_RDONLY, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("start process: %w", err)
	}
	sys := &syscall.SysProcAttr{Setsid: true, AmbientCaps: caps}
	if change {
		sys.Credential = who.credential()
	}
	if s.Bare != nil {
		sys.Pdeathsig = unix.SIGKILL // elsewhere the namespace ends with this process
	}
	pid, err = syscall.ForkExec(path, s.Args, &syscall.ProcAttr{Env: env, Files: []uintptr{null.Fd(), 1, 2}, Sys: sys})
	switch {
	case err == nil:
		return pid, nil, nil
	case errors.Is(err, unix.EINVAL) && who.uid != 0:
		return 0, nil, fmt.Errorf("start process: user %d is not mapped here: give the builder's user a range in /etc/subuid and /etc/subgid: %w", who.uid, err)
	case errors.Is(err, unix.EPERM) && who.uid != 0:
		return 0, nil, fmt.Errorf("start process as user %d: %w", who.uid, err)
	}
	return 0, notStarted(fmt.Errorf("exec %s: %w", s.Args[0], err)), nil
}

func notStarted(err error) *Result {
	r := &Result{Code: codeCannotRun, Reason: err.Error()}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, exec.ErrNotFound) {
		r.Code = codeNotFound
	}
	return r
}

// enterDir makes the working directory, when it is missing, for the user, and enters it while
// this process may still enter all of them.
func (s *Spec) enterDir(who identity) error {
	dir, err := resolve(s.Dir)
	if err != nil {
		return fmt.Errorf("enter working directory %q: %w", s.Dir, err)
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := makeDirs(dir, who.own); err != nil {
			return fmt.Errorf("make working directory %q: %w", s.Dir, err)
		}
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter working directory %q: %w", s.Dir, err)
	}
	return nil
}

// makeDirs makes a directory and its parents with mode 0755, and calls made for each that it made.
func makeDirs(dir string, made func(string) error) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	if err := makeDirs(filepath.Dir(dir), made); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return made(dir)
}

// environment is env with the last value of each variable, and HOME.
func environment(env []string, home string) []string {
	last := make(map[string]int, len(env))
	for i, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		last[name] = i
	}
	out := make([]string, 0, len(env)+1)
	for i, kv := range env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || last[name] != i || name == "HOME" && value == "" || strings.ContainsRune(kv, 0) {
			continue
		}
		out = append(out, kv)
	}
	if i, ok := last["HOME"]; !ok || env[i] == "HOME=" {
		out = append(out, "HOME="+home)
	}
	return out
}

// lookUpProgram finds a program in PATH of env. Its errors are worded as those that people know from
// container runtimes.
func lookUpProgram(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", &exec.Error{Name: name, Err: err}
		}
		return name, nil
	}
	var list string
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = v
		}
	}
	for _, dir := range filepath.SplitList(list) {
		if dir == "" {
			dir = "."
		}
		if path := filepath.Join(dir, name); executable(path) == nil {
			if !filepath.IsAbs(path) {
				path = "./" + path
			}
			return path, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

func executable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case fi.IsDir():
		return unix.EISDIR
	case fi.Mode()&0o111 == 0:
		return unix.EACCES
	}
	return nil
}

// giveStreams lets the step open its standard streams anew through /dev/stdout, which pipes permit only
// their owner.
func giveStreams(uid int) {
	for fd := 1; fd <= 2; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			_ = unix.Fchown(fd, uid, -1) // where ids are missing the step does without
		}
	}
}
