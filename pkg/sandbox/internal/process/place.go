package process

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/cachedir"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
)

// placed is something that stands for a mount.
type placed struct {
	at     string // its path, without links
	source source
	parent int // the directory that it is in
	base   string
	// covered is where what was there is kept, or "".
	covered string
	// was is what was there, and hidden the same while it is covered; nil if nothing was.
	was, hidden *unix.Stat_t
}

// place puts everything in the root that would be mounted elsewhere.
func (b *bare) place() error {
	for i := range b.spec.Mounts {
		m := &b.spec.Mounts[i]
		if err := b.placeOne(m, filepath.Join(b.spec.Box, strconv.Itoa(i))); err != nil {
			return fmt.Errorf("mount on %q: %w", m.Target, err)
		}
	}
	return nil
}

func (b *bare) placeOne(m *Mount, from string) error {
	p := placed{covered: from + ".covered"}
	err := b.inRoot(func() (err error) {
		p.at, err = target(m.Target)
		return err
	})
	if err != nil {
		return err
	}
	// The parts of /dev are the container's own.
	root := b.root
	if b.spec.Bare.Swap != nil && within(p.at, "/dev") {
		root = b.old
		if p.at == "/dev" {
			return errors.New("the container's /dev cannot be covered")
		}
		if m.Device != nil && exists(p.at) {
			return nil // the container has it
		}
	}
	if p.parent, err = b.makeParents(root, path.Dir(p.at)); err != nil {
		return err
	}
	p.base = path.Base(p.at)
	kind, err := statAt(p.parent, p.base)
	if err != nil {
		return err
	}
	if p.source, err = b.source(m, from, kind); err != nil {
		return err
	}
	if p.was = kind; kind == nil {
		p.covered = ""
	} else if dir := isDir(from); dir != (kind.Mode&unix.S_IFMT == unix.S_IFDIR) {
		return errors.Join(unix.ENOTDIR, p.source.back(from))
	}
	if err := p.put(from); err != nil {
		return errors.Join(err, p.source.back(from))
	}
	b.mounts = append(b.mounts, p)
	b.later(func() error { return b.takeOut(&p, from) })
	return nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// makeParents opens a directory by its path without links, after it has made what is missing of it, to be removed when it
// is empty afterwards.
func (b *bare) makeParents(root int, dir string) (int, error) {
	at, err := unix.Openat(root, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for base := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if base == "" {
			continue
		}
		next, err := b.openOrMake(at, base, dir)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		at = next
	}
	return at, nil
}

func (b *bare) openOrMake(parent int, base, dir string) (int, error) {
	const how = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, base, how, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := keepTimesAt(parent, func() error { return unix.Mkdirat(parent, base, 0o755) }); err != nil {
		return -1, err
	}
	if !b.inCache(dir) { // where others may be using them
		b.later(func() error { return removeEmpty(parent, base) })
	}
	return unix.Openat(parent, base, how, 0)
}

// inCache reports whether a path is in a cache.
func (b *bare) inCache(name string) bool {
	for _, p := range b.mounts {
		if p.source.cache && within(name, p.at) {
			return true
		}
	}
	return false
}

// removeEmpty removes a directory that was made for a mount, unless the step has put something in it.
func removeEmpty(parent int, base string) error {
	err := keepTimesAt(parent, func() error { return unix.Unlinkat(parent, base, unix.AT_REMOVEDIR) })
	if gone(err) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// put exchanges what is there for what was prepared.
func (p *placed) put(from string) error {
	return keepTimesAt(p.parent, func() error {
		if p.covered != "" {
			if err := moveOut(p.parent, p.base, p.covered); err != nil {
				return err
			}
			var err error
			if p.hidden, err = statAt(unix.AT_FDCWD, p.covered); err != nil {
				return err
			}
		}
		return moveIn(from, p.parent, p.base)
	})
}

// takeOut exchanges it back, and notes what was only moved meanwhile.
func (b *bare) takeOut(p *placed, to string) error {
	err := keepTimesAt(p.parent, func() error {
		err := moveOut(p.parent, p.base, to)
		if errors.Is(err, unix.ENOENT) { // the step has removed it
			err = nil
		}
		if err == nil {
			err = p.source.back(to)
		}
		if p.covered != "" {
			err = errors.Join(err, b.uncover(p))
		}
		return err
	})
	unix.Close(p.parent)
	if err != nil {
		return fmt.Errorf("take out what stood for the mount on %q: %w", p.at, err)
	}
	return nil
}

// uncover puts back what was covered. A file that nobody has touched meanwhile is as it was, but for its time of change.
func (b *bare) uncover(p *placed) error {
	hidden, err := statAt(unix.AT_FDCWD, p.covered)
	if err != nil {
		return err
	}
	if err := moveIn(p.covered, p.parent, p.base); err != nil {
		return err
	}
	now, err := statAt(p.parent, p.base)
	if err != nil || hidden == nil || now == nil || p.hidden == nil {
		return err
	}
	for _, st := range []*unix.Stat_t{p.hidden, hidden, now} {
		if st.Dev != p.was.Dev || st.Ino != p.was.Ino {
			return nil // it was copied
		}
	}
	if hidden.Ctim == p.hidden.Ctim {
		if b.moved == nil {
			b.moved = make(diff.Moved)
		}
		b.moved[[2]uint64{now.Dev, now.Ino}] = struct{ Before, After int64 }{p.was.Ctim.Nano(), now.Ctim.Nano()}
	}
	return nil
}

// moveOut moves a file or directory by its name in an open directory to a path that does not exist, and moveIn back. Both copy
// it where it cannot be renamed.
func moveOut(dir int, base, to string) error {
	err := unix.Renameat(dir, base, unix.AT_FDCWD, to)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	parent, err := pathOf(dir)
	if err != nil {
		return err
	}
	return copyOver(filepath.Join(parent, base), to)
}

func moveIn(from string, dir int, base string) error {
	err := unix.Renameat(unix.AT_FDCWD, from, dir, base)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	parent, err := pathOf(dir)
	if err != nil {
		return err
	}
	return copyOver(from, filepath.Join(parent, base))
}

// copyOver copies to another filesystem what is then removed.
func copyOver(from, to string) error {
	if fi, err := os.Lstat(from); err == nil && fi.Mode().Type() == os.ModeSocket {
		return fmt.Errorf("a socket cannot be shown on another filesystem than the root's where mounts are not permitted: %w", unix.EXDEV)
	}
	if err := cachedir.Copy(from, path.Dir(to), path.Base(to), false); err != nil {
		return err
	}
	return os.RemoveAll(from)
}

// pathOf returns the path of an open file or directory.
func pathOf(fd int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) }

// statAt returns nil when there is nothing of that name.
func statAt(dir int, base string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return &st, err
}

// keepTimesAt keeps the times of an open directory in which change makes or removes something.
func keepTimesAt(dir int, change func() error) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	name := fmt.Sprintf("/proc/self/fd/%d", dir)
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Atim, st.Mtim}, 0)
}
