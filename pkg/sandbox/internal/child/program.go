package child

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// build tells programs that were made from different sources apart. The linker sets it where a program embeds the one that its
// children run (see scripts/build); elsewhere children run this very program, and it is empty.
var build string //nolint:gochecknoglobals // set by the linker

// Program is a program that children run. It is safe for concurrent use.
type Program struct {
	file func() (*os.File, error) // once
	// refused says that it cannot be executed here.
	refused atomic.Bool
}

// NewProgram returns the program whose ELF file is text.
func NewProgram(text string) *Program {
	return &Program{file: sync.OnceValues(func() (*os.File, error) { return inMemory(text) })}
}

// open returns the file to execute, or nil when children have to run this program itself.
func (p *Program) open() *os.File {
	if p == nil || p.refused.Load() {
		return nil
	}
	f, err := p.file()
	if err != nil {
		return nil // such as where the kernel is told to refuse programs in memory (vm.memfd_noexec)
	}
	return f
}

// processName is the name of children among processes; longer ones are cut off.
const processName = "gobuild-step"

// inMemory returns a file of text that nobody can change, not even a step that gets hold of it, and that has no name.
func inMemory(text string) (*os.File, error) {
	const name, flags = processName, unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("make program in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.WriteString(text); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make program in memory: %w", err)
	}
	return f, nil
}

// cannotExecute says whether an error of starting a process may be that its program cannot be executed from memory here: a
// policy forbids it, or there is no /proc.
func cannotExecute(err error) bool {
	for _, e := range []error{unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENOEXEC} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// sameBuild refuses to work for a program that was made from other sources, whose requests may mean something else.
func sameBuild(parents string) error {
	if parents != build {
		return fmt.Errorf("start child: the program for steps is of build %q, and the one that started it of build %q: build gobuild by scripts/build, which makes both",
			build, parents)
	}
	return nil
}
