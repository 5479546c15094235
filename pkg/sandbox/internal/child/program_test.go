package child

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Main(map[string]Op{"who": who, "overwrite": overwrite})
	os.Exit(m.Run())
}

// who tells what program the child runs.
func who(c *Conn) error {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return err
	}
	return c.Send(path + " named " + string(name))
}

// overwrite tries to change the program that the child runs, by all ways in which a child could reach it, and tells how
// far it came.
func overwrite(c *Conn) error {
	var reached []string
	for _, name := range []string{"/proc/self/exe", "/proc/self/fd/5"} {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		if _, err := f.WriteString("x"); err == nil {
			reached = append(reached, "write "+name)
		}
		if f.Truncate(0) == nil {
			reached = append(reached, "truncate "+name)
		}
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); err == nil {
			reached = append(reached, "seal "+name)
		}
		f.Close()
	}
	return c.Send(strings.Join(reached, ", "))
}

// self is this test program, as a program to embed.
func self(t *testing.T) *Program {
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return NewProgram(string(text))
}

// ask starts a child and returns what it says.
func ask(t *testing.T, op string, program *Program) (string, error) {
	t.Helper()
	p, err := Command{Op: op, Program: program}.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var answer string
	if err := p.Receive(&answer); err != nil {
		return "", p.Fail(err)
	}
	return answer, p.Finish()
}

func TestChildRunsTheProgramFromMemory(t *testing.T) {
	program := self(t)
	for range 3 {
		if got, err := ask(t, "who", program); err != nil || !strings.Contains(got, "memfd:gobuild-step") || !strings.HasSuffix(got, " named gobuild-step\n") {
			t.Errorf("the child runs %q, %v", got, err)
		}
	}
	if got, err := ask(t, "who", nil); err != nil || strings.Contains(got, "memfd:") {
		t.Errorf("without another program the child runs %q, %v", got, err)
	}
}

func TestProgramInMemoryCannotBeChanged(t *testing.T) {
	program := self(t)
	if got, err := ask(t, "overwrite", program); err != nil || got != "" {
		t.Errorf("the child could %s: %v", got, err)
	}
	if f := program.open(); f == nil {
		t.Error("there is no program")
	} else if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write to program: %v", err)
	}
}

// TestProgramThatCannotBeExecuted holds that children run this program where they cannot run the other one, as under a policy that
// allows no programs in memory.
func TestProgramThatCannotBeExecuted(t *testing.T) {
	forbidden := &Program{file: func() (*os.File, error) { return nil, unix.EACCES }}
	for name, program := range map[string]*Program{"not executable": NewProgram("none"), "forbidden": forbidden} {
		for range 2 {
			if got, err := ask(t, "who", program); err != nil || got == "" || strings.Contains(got, "memfd:") {
				t.Errorf("%s: the child runs %q, %v", name, got, err)
			}
		}
	}
}

// TestProgramOfAnotherBuild holds that programs do not talk that may understand each other wrongly.
func TestProgramOfAnotherBuild(t *testing.T) {
	build = "another"
	defer func() { build = "" }()
	_, err := ask(t, "who", self(t))
	if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), `is of build "", and the one that started it of build "another"`) {
		t.Errorf("got %v", err)
	}
}
