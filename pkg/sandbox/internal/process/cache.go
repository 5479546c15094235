package process

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/cachedir"
)

// cache prepares a cache, unless that was done before, and binds a part of it.
func (b *box) cache(c *Cache, at string) error {
	begin := cachedir.Beginning{UID: c.UID, GID: c.GID, Mode: c.Mode, OneOwner: b.spec.OneOwner}
	if c.Seed != nil {
		begin.Seed = at + ".seed"
		if err := b.part(c.Seed, begin.Seed); err != nil {
			return err
		}
	}
	files, err := cachedir.Prepare(c.Dir, begin)
	if err != nil {
		return err
	}
	if path.Join("/", c.Path) == "/" {
		return bind(files, at)
	}
	fd, err := makeIn(files, c.Path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return bindOpen(fd, at)
}

// makeIn opens a path as openIn does, after it has made the directories that are missing. Others may be doing the same.
func makeIn(root, name string) (int, error) {
	at := "/"
	for part := range strings.SplitSeq(path.Join("/", name), "/") {
		next := path.Join(at, part)
		fd, err := openIn(root, next)
		if errors.Is(err, unix.ENOENT) {
			if err = mkdirIn(root, at, part); err != nil {
				return -1, err
			}
			fd, err = openIn(root, next)
		}
		if err != nil {
			return -1, err
		}
		unix.Close(fd)
		at = next
	}
	return openIn(root, at)
}

func mkdirIn(root, dir, base string) error {
	fd, err := openIn(root, dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Mkdirat(fd, base, 0o755)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
