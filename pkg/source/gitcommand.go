package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// git runs the git command, and nothing that the configuration of this machine, or a repository, would let it run. The
// command is used rather than a library because it alone has all transports, object formats and shallow
// clones; it needs version 2.31.
type git struct {
	path    string // of the program
	env     []string
	config  []setting // for every command
	secrets []string  // that no message may hold
	dir     string    // where commands run; not in a repository
}

// setting is a value of git's configuration. It is handed on in the environment, which other users cannot read, unlike
// the command line.
type setting struct{ key, value string }

const (
	// maxOutput bounds what is read of a command's output, in bytes, where that is kept.
	maxOutput = 4 << 20
	// maxMessages bounds what is kept of its messages: the last bytes.
	maxMessages = 4 << 10
	// graceTime is how long a command may take to end when it is told to.
	graceTime = 5 * time.Second
)

// newGit finds the command. Dir is an empty directory.
func newGit(dir string, f Fetch) (*git, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, errors.New("the git command is needed for that and is not installed")
	}
	g := &git{path: program, dir: dir}
	g.env = []string{
		// Git's helpers are where git is, or where they always are.
		"PATH=" + filepath.Dir(program) + ":/usr/local/bin:/usr/bin:/bin",
		"HOME=" + os.DevNull,
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_NO_REPLACE_OBJECTS=1",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_CEILING_DIRECTORIES=" + filepath.Dir(dir),
		"GIT_SSH_COMMAND=" + f.sshCommand(),
	}
	g.config = []setting{
		{"protocol.allow", "never"},
		{"protocol.http.allow", "always"},
		{"protocol.https.allow", "always"},
		{"protocol.git.allow", "always"},
		{"protocol.ssh.allow", "always"},
		{"core.hooksPath", os.DevNull},
		{"credential.helper", ""},
		{"gc.auto", "0"},
		{"maintenance.auto", "false"},
		{"submodule.recurse", "false"},
		{"init.defaultBranch", "master"},
		{"advice.detachedHead", "false"},
		{"http.lowSpeedLimit", "1"},
		{"http.lowSpeedTime", strconv.Itoa(max(1, int(f.Stall/time.Second)))},
	}
	return g, nil
}

// sshCommand is how git calls ssh: without the user's configuration, and without questions.
func (f Fetch) sshCommand() string {
	words := fmt.Sprintf("ssh -F %s -o BatchMode=yes -o LogLevel=ERROR -o ConnectTimeout=%d -o ServerAliveInterval=%[2]d -o ServerAliveCountMax=1",
		os.DevNull, max(1, int(f.Stall/time.Second)))
	if f.KnownHosts == "" {
		return words + " -o StrictHostKeyChecking=no -o UserKnownHostsFile=" + os.DevNull
	}
	// ssh splits the value at spaces and expands "%", after the shell has split the command.
	file := `UserKnownHostsFile="` + strings.ReplaceAll(f.KnownHosts, "%", "%%") + `"`
	return words + " -o StrictHostKeyChecking=yes -o '" + strings.ReplaceAll(file, "'", `'\''`) + "'"
}

// proxy is the setting for requests to remote.
func (g *git) proxy(f Fetch, remote string) ([]setting, error) {
	if f.Proxy == nil || !isHTTP(remote) {
		return nil, nil
	}
	req, err := http.NewRequest(http.MethodGet, remote, nil) //nolint:noctx // it is not sent
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	u, err := f.Proxy(req)
	if u == nil || err != nil {
		return nil, err
	}
	return []setting{{"http.proxy", u.String()}}, nil
}

// gitError is the failure of a command.
type gitError struct {
	command  string
	messages string
	err      error
}

func (e *gitError) Error() string {
	if e.messages == "" {
		return fmt.Sprintf("git %s: %v", e.command, e.err)
	}
	return fmt.Sprintf("git %s: %v: %s", e.command, e.err, e.messages)
}

func (e *gitError) Unwrap() error { return e.err }

// says reports whether err is a command's failure whose messages contain one of words.
func says(err error, words ...string) bool {
	var e *gitError
	if !errors.As(err, &e) {
		return false
	}
	for _, w := range words {
		if strings.Contains(e.messages, w) {
			return true
		}
	}
	return false
}

// output runs a command and returns what it prints.
func (g *git) output(ctx context.Context, more []setting, args ...string) (string, error) {
	var out bytes.Buffer
	err := g.run(ctx, &limitedWriter{&out, maxOutput}, more, args...)
	return out.String(), err
}

// run runs a command with the settings of g and more. Its name has to be the first of args that is no option with a "=".
func (g *git) run(ctx context.Context, stdout io.Writer, more []setting, args ...string) error {
	cmd := exec.CommandContext(ctx, g.path, args...)
	cmd.Dir = g.dir
	cmd.Env = append(cmd.Env, g.env...)
	settings := append(g.config[:len(g.config):len(g.config)], more...)
	cmd.Env = append(cmd.Env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(settings)))
	for i, s := range settings {
		cmd.Env = append(cmd.Env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s.key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s.value))
	}
	messages := &lastWriter{size: maxMessages}
	cmd.Stdout, cmd.Stderr = stdout, messages
	// Its helpers are in its process group, and have to end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = graceTime
	runtime.LockOSThread() // the thread's end is what Pdeathsig waits for
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // those that did not heed the first one
		}
		return cause
	}
	return &gitError{command: subcommand(args), messages: g.redact(messages.String()), err: err}
}

// subcommand is the name of the command in args.
func subcommand(args []string) string {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			return a
		}
	}
	return ""
}

// redact takes secrets out of a message: a server may send back what it got.
func (g *git) redact(s string) string {
	for _, secret := range g.secrets {
		s = strings.ReplaceAll(s, secret, "xxxxx")
	}
	return strings.TrimSpace(s)
}

// limitedWriter refuses more than left bytes.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("the output is too long")
	}
	return l.w.Write(p)
}

// lastWriter keeps the last bytes.
type lastWriter struct {
	size int
	kept []byte
}

func (l *lastWriter) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p...)
	if extra := len(l.kept) - l.size; extra > 0 {
		l.kept = append(l.kept[:0], l.kept[extra:]...)
	}
	return len(p), nil
}

func (l *lastWriter) String() string { return string(l.kept) }
