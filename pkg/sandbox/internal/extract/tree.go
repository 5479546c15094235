package extract

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
)

// maxLinks is how many symbolic links a path may lead through: twice Linux's own limit is
// more than any image needs.
const maxLinks = 255

// cacheSize is how many directories are kept open. Layers are mostly in depth-first order.
const cacheSize = 64

// place is an open directory.
type place struct {
	fd   int
	path string // from the root, without links; "." is the root
}

func (p place) join(base string) string {
	if p.path == "." {
		return base
	}
	return p.path + "/" + base
}

// tree finds directories below a root by file descriptors.
type tree struct {
	root int
	// make makes the directory base, which is missing; hidden says that there was a whiteout in its place.
	make func(in place, base string, hidden bool) error
	// cache holds directories by the names they were asked for.
	cache map[string]place
}

func (t *tree) close() {
	t.forget()
	unix.Close(t.root)
}

// forget closes the directories that were kept open. It must be called before something is
// removed, as then a name may come to mean another place.
func (t *tree) forget() {
	for name, p := range t.cache {
		unix.Close(p.fd)
		delete(t.cache, name)
	}
}

// dir opens the directory of that clean name, following links inside the root, and makes
// what is missing. The file descriptor is good until the next call of a method.
func (t *tree) dir(name string) (place, error) {
	if name == "." {
		return place{t.root, "."}, nil
	}
	if p, ok := t.cache[name]; ok {
		return p, nil
	}
	if len(t.cache) >= cacheSize {
		t.forget()
	}
	p, err := t.walk(name)
	if err != nil {
		return place{}, err
	}
	t.cache[name] = p
	return p, nil
}

// walk goes from the root to the directory, which may lead over links.
func (t *tree) walk(name string) (place, error) {
	w := walker{stack: []place{{t.root, "."}}}
	defer w.close()
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			w.up()
			continue
		}
		target, err := t.step(&w, part)
		if err != nil {
			return place{}, fmt.Errorf("open directory %q: %w", w.top().join(part), err)
		}
		if target == "" {
			continue
		}
		if links++; links > maxLinks {
			return place{}, fmt.Errorf("open directory %q: %w", name, unix.ELOOP)
		}
		if strings.HasPrefix(target, "/") {
			w.toRoot()
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return w.take()
}

// step goes down into part, and makes it if it is missing. When part is a link it stays where it is and
// returns the target.
func (t *tree) step(w *walker, part string) (target string, err error) {
	in := w.top()
	var st unix.Stat_t
	err = unix.Fstatat(in.fd, part, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		err = t.make(in, part, false)
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return readlink(in.fd, part)
	case err == nil && union.IsWhiteout(&st):
		if err = unix.Unlinkat(in.fd, part, 0); err == nil {
			err = t.make(in, part, true)
		}
	}
	if err != nil {
		return "", err
	}
	fd, err := openDir(in.fd, part)
	if err != nil {
		return "", err
	}
	w.stack = append(w.stack, place{fd, in.join(part)})
	return "", nil
}

// walker is the way from the root to where a walk has come.
type walker struct {
	stack []place // the root first, which is not the walker's to close
}

func (w *walker) top() place { return w.stack[len(w.stack)-1] }

func (w *walker) up() {
	if len(w.stack) > 1 {
		unix.Close(w.top().fd)
		w.stack = w.stack[:len(w.stack)-1]
	}
}

func (w *walker) toRoot() {
	for len(w.stack) > 1 {
		w.up()
	}
}

// take returns the place where the walk has ended, which the caller closes.
func (w *walker) take() (place, error) {
	p := w.top()
	fd, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 0)
	return place{fd, p.path}, err
}

func (w *walker) close() { w.toRoot() }

func openDir(at int, name string) (int, error) {
	for {
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func readlink(at int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// list returns the names in a directory, sorted bytewise.
func list(fd int) ([]string, error) {
	// The descriptor is not read from, as it has but one position.
	own, err := openDir(fd, ".")
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), ".")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// removeAll removes base in the directory at, following no link.
func removeAll(at int, base string) error {
	err := unix.Unlinkat(at, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, err := openDir(at, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := list(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeAll(fd, name); err != nil {
			return err
		}
	}
	return unix.Unlinkat(at, base, unix.AT_REMOVEDIR)
}

// procPath is a path to base in an open directory, for calls that have no form that takes a descriptor.
func procPath(fd int, base string) string { return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + base }
