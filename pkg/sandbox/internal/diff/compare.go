package diff

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Known is what is known of a file without reading it: what the layers say that it is.
type Known struct {
	Digest [sha256.Size]byte // zero for anything but regular files
	Target string            // of a symbolic link
	Xattrs map[string]string
}

// Compare returns what has changed in dir between two records, the second of which is of its present
// state. known is consulted for the files that are doubtful: one that is not in it has changed, unless it is a
// directory.
func Compare(ctx context.Context, dir string, before, after *Record, known map[string]Known, o Options) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		c := &compare{emitter: newEmitter(ctx, o, yield), root: dir, known: known}
		c.finish(c.below("", before.Root, after.Root))
	}
}

type compare struct {
	*emitter
	root  string
	known map[string]Known
}

// below emits the changes in a directory; before is nil for a new one.
func (c *compare) below(dir string, before, after *Node) error {
	if before == nil || !before.Stamp.isDir() {
		before = &Node{}
	}
	var err error
	pairs(before, after, dir, func(name string, a, b *Node) bool {
		if err == nil {
			err = c.pair(name, a, b)
		}
		return false
	})
	return err
}

func (c *compare) pair(name string, before, after *Node) error {
	if after == nil {
		if _, ok := inode.Type(before.Stamp.Mode); !ok {
			return nil // a socket was in no layer
		}
		return c.remove(name)
	}
	if _, ok := inode.Type(after.Stamp.Mode); !ok {
		return nil
	}
	file := candidate{path: c.root + "/" + name, name: name}
	file.existed = before != nil && before.Stamp.kind() == after.Stamp.kind()
	same, err := c.same(file, before, after)
	if err != nil {
		return err
	}
	isDir := after.Stamp.isDir()
	if same && !isDir {
		return nil
	}
	if !same {
		if err := file.look(); err != nil {
			return err
		}
		if err := c.add(snapshot.Add, file); err != nil {
			return err
		}
		file.emitted = true
	}
	if !isDir {
		return nil
	}
	c.enter(file)
	defer c.leave()
	return c.below(name, before, after)
}

// same reports whether a file is what it was.
func (c *compare) same(file candidate, before, after *Node) (bool, error) {
	switch {
	case before == nil:
		return false, nil
	case before.Stamp == after.Stamp:
		return true, nil
	case !looksSame(&before.Stamp, &after.Stamp):
		return false, nil
	}
	if !mark.Bears(after.Stamp.Mode) {
		if _, given := c.tabled(file); given {
			return false, nil
		}
	}
	known, ok := c.known[file.name]
	if !ok {
		return after.Stamp.isDir(), nil
	}
	xattrs, err := inode.Xattrs(file.path)
	if err != nil {
		return false, fmt.Errorf("read changes: %w", err)
	}
	if !maps.Equal(xattrs, known.Xattrs) {
		return false, nil
	}
	switch after.Stamp.kind() {
	case unix.S_IFREG:
		digest, err := digestOf(file.path, after.Stamp.Size)
		return digest == known.Digest, err
	case unix.S_IFLNK:
		target, err := inode.Readlink(file.path)
		return target == known.Target, err
	}
	return true, nil
}

func digestOf(path string, size int64) (digest [sha256.Size]byte, err error) {
	f, err := openFile(path, size)
	if err != nil {
		return digest, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err == nil && n != size {
		err = errors.New("file changed while it was read")
	}
	if err != nil {
		return digest, &os.PathError{Op: "read", Path: path, Err: err}
	}
	h.Sum(digest[:0])
	return digest, nil
}
