package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// devGuard knows what was in the container's /dev before a step, which the step shares with those after it.
type devGuard struct {
	// dirs have their entries by name. What is mounted in /dev is only looked into where a step may write.
	dirs map[string]map[string]unix.Stat_t
	// links are the targets of symbolic links by their path.
	links map[string]string
}

// guardDev notes what is in /dev.
func guardDev() (*devGuard, error) {
	g := &devGuard{dirs: make(map[string]map[string]unix.Stat_t), links: make(map[string]string)}
	for _, dir := range []string{"/dev", memory, "/dev/mqueue"} {
		names, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look into %s: %w", dir, err)
		}
		g.dirs[dir] = make(map[string]unix.Stat_t, len(names))
		for _, e := range names {
			path := filepath.Join(dir, e.Name())
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				continue // it has gone
			}
			g.dirs[dir][e.Name()] = st
			if target, err := os.Readlink(path); err == nil {
				g.links[path] = target
			}
		}
	}
	return g, nil
}

// restore removes what the step has made there, and makes what it has removed.
func (g *devGuard) restore() error {
	var errs []error
	for dir, before := range g.dirs {
		now, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range now {
			path := filepath.Join(dir, e.Name())
			var st unix.Stat_t
			known, ok := before[e.Name()]
			if ok && unix.Lstat(path, &st) == nil && st.Mode == known.Mode && st.Rdev == known.Rdev {
				delete(before, e.Name())
				continue
			}
			if err := os.RemoveAll(path); err != nil && !errors.Is(err, unix.EBUSY) {
				errs = append(errs, err)
			}
		}
		for base, st := range before {
			errs = append(errs, g.remake(filepath.Join(dir, base), &st))
		}
	}
	return errors.Join(errs...)
}

// remake makes a node or a link; other files that a step has removed are gone.
func (g *devGuard) remake(path string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return os.Symlink(g.links[path], path)
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO:
		if err := unix.Mknod(path, st.Mode, int(st.Rdev)); err != nil { //nolint:gosec // device numbers are small
			return &os.PathError{Op: "mknod", Path: path, Err: err}
		}
		return errors.Join(os.Lchown(path, int(st.Uid), int(st.Gid)), unix.Chmod(path, st.Mode&0o7777))
	}
	return nil
}
