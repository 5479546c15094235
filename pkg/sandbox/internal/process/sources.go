package process

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/cachedir"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
)

// memory is a filesystem that no disk sees, which every container has.
const memory = "/dev/shm"

// source is what stands for the source of a mount.
type source struct {
	cache bool
	// home is where it was moved from, and goes to again; "" for a copy.
	home string
	// remove is a file to be removed afterwards, or "".
	remove string
}

// source prepares the source of a mount at a path. covered is what will be covered, or nil.
func (b *bare) source(m *Mount, at string, covered *unix.Stat_t) (source, error) {
	switch {
	case m.Bind != nil:
		return b.bareBind(m, at)
	case m.Host != nil:
		if !m.ReadOnly {
			return source{}, errors.New("the builder's files cannot be shown for writing where mounts are not permitted")
		}
		return source{}, cachedir.Copy(m.Host.Path, path.Dir(at), path.Base(at), false)
	case m.Cache != nil:
		return b.bareCache(m.Cache, at)
	case m.Tmpfs != nil:
		return source{}, emptyLike(at, covered)
	case m.File != nil:
		return b.bareFile(m.File, at)
	case m.Socket != nil:
		return source{}, b.bareSocket(m.Socket, at)
	case m.Device != nil:
		return source{}, bareDevice(m.Device.Path, at)
	}
	return source{}, errors.New("no source")
}

// back brings it home, or removes it.
func (s *source) back(from string) error {
	if s.remove != "" {
		if err := os.Remove(s.remove); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if s.home == "" {
		return os.RemoveAll(from)
	}
	if _, err := os.Lstat(from); errors.Is(err, os.ErrNotExist) {
		if err := os.Mkdir(from, 0o755); err != nil { // the step has removed a directory that it could have emptied
			return err
		}
	}
	return carry(from, s.home)
}

// carry renames a file or directory, or copies it to where it cannot be renamed.
func carry(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	return copyOver(from, to)
}

// partPath returns the path of a part of a tree.
func (b *bare) partPath(p *Part) (string, error) {
	fd, err := openIn(b.spec.Trees[p.Tree].Dir, p.Path)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return pathOf(fd)
}

// bareBind copies what the step may only read, since nothing would keep it from writing. What it may write is moved.
func (b *bare) bareBind(m *Mount, at string) (source, error) {
	name, err := b.partPath(m.Bind)
	if err != nil {
		return source{}, err
	}
	if m.ReadOnly {
		return source{}, cachedir.Copy(name, path.Dir(at), path.Base(at), false)
	}
	return source{home: name}, os.Rename(name, at)
}

// lock takes the locks of all caches, in one order so that no two steps wait for each other.
func (b *bare) lock() error {
	var dirs []string
	for _, m := range b.spec.Mounts {
		if m.Cache != nil && !slices.Contains(dirs, m.Cache.Dir) {
			dirs = append(dirs, m.Cache.Dir)
		}
	}
	slices.Sort(dirs)
	if s := b.spec.Bare.Swap; s != nil {
		dirs = append(dirs, s.State)
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		held, err := lock.Hold(filepath.Join(dir, "used"))
		if err != nil {
			return err
		}
		b.later(held.Close)
	}
	return nil
}

// bareCache moves a cache, or a part of it, so that one step has it at a time.
func (b *bare) bareCache(c *Cache, at string) (source, error) {
	begin := cachedir.Beginning{UID: c.UID, GID: c.GID, Mode: c.Mode}
	if c.Seed != nil {
		var err error
		if begin.Seed, err = b.partPath(c.Seed); err != nil {
			return source{}, err
		}
	}
	files, err := cachedir.Prepare(c.Dir, begin)
	if err != nil {
		return source{}, err
	}
	if path.Join("/", c.Path) == "/" {
		return source{cache: true, home: files}, carry(files, at)
	}
	fd, err := makeIn(files, c.Path)
	if err != nil {
		return source{}, err
	}
	defer unix.Close(fd)
	name, err := pathOf(fd)
	if err != nil {
		return source{}, err
	}
	return source{cache: true, home: name}, carry(name, at)
}

// emptyLike makes an empty directory with the mode of what it covers.
func emptyLike(at string, covered *unix.Stat_t) error {
	mode := uint32(0o1777)
	if covered != nil {
		mode = covered.Mode & 0o7777
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	return unix.Chmod(at, mode)
}

// bareFile writes a file. A secret is written to memory, if the step can reach that, and a link to it.
func (b *bare) bareFile(f *File, at string) (source, error) {
	if !f.Secret || b.spec.Bare.Swap == nil {
		return source{}, b.write(f, at)
	}
	name := filepath.Join(memory, "gobuild-"+strings.ToLower(rand.Text()))
	if err := b.write(f, name); err != nil {
		return source{}, err
	}
	return source{remove: name}, os.Symlink(name, at)
}

func (b *bare) write(f *File, at string) error {
	file, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(f.Data)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return (&box{b.spec}).attributes(at, f.UID, f.GID, f.Mode)
}

// bareSocket gives the socket another name.
func (b *bare) bareSocket(s *Socket, at string) error {
	fi, err := os.Lstat(s.Path)
	if err != nil {
		return err
	}
	if fi.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%q is not a socket", s.Path)
	}
	if err := (&box{b.spec}).attributes(s.Path, s.UID, s.GID, s.Mode); err != nil {
		return err
	}
	err = os.Link(s.Path, at)
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("the socket %q is on another filesystem than the root, and mounts are not permitted", s.Path)
	}
	return err
}

// bareDevice makes a node like one of the builder's.
func bareDevice(name, at string) error {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return fmt.Errorf("find device: %w", &os.PathError{Op: "stat", Path: name, Err: err})
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return fmt.Errorf("%q is not a device", name)
	}
	if err := unix.Mknod(at, st.Mode, int(st.Rdev)); err != nil { //nolint:gosec // device numbers are small
		return fmt.Errorf("make node of device %q: %w", name, err)
	}
	return unix.Chmod(at, st.Mode&0o7777)
}
