// Package diff finds out what a step changed, either from the upper directory of an overlay or
// by comparing a directory with a record of what was in it.
//
// Both agree with the differ that container engines use: a directory whose time alone has changed is no change,
// parents of what has changed are part of the stream, and sockets are not.
package diff

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Existed is a PAX record in the header of a file that replaces one of the same type. It is only set when asked for,
// and not to be written to layers.
const Existed = "GOBUILD.existed"

// Owned is a PAX record in a header of which the owner is known to be the one that the file should have. It is set where there is but
// one owner, and not to be written to layers.
const Owned = "GOBUILD.owned"

// Options say what a stream should have in it.
type Options struct {
	// OneOwner says that files can have but one owner on disk. The records Existed and Owned are set then.
	OneOwner bool
	// Marks says which owners they should have.
	Marks mark.Record
}

// errStop says that whoever consumed the stream wants no more.
var errStop = errors.New("stop")

// emitter yields changes in order, with the parents of what has changed, and hard links as links.
type emitter struct {
	o Options
	// live returns an error when nobody wants the stream any more.
	live  func() error
	yield func(snapshot.Change, error) bool
	// parents are the unchanged directories around the current one, which become part of the stream when
	// something in them does.
	parents []candidate
	links   map[[2]uint64]string
}

type candidate struct {
	path, name string
	// stat is nil for a directory that was not looked at because it is as it was.
	stat *unix.Stat_t
	// origin is the number under which the file may be known, besides its own, to those who look at an overlay.
	origin  uint64
	emitted bool
	existed bool
}

// look sets stat.
func (c *candidate) look() error {
	var st unix.Stat_t
	if err := unix.Lstat(c.path, &st); err != nil {
		return fmt.Errorf("read changes: %w", &os.PathError{Op: "lstat", Path: c.path, Err: err})
	}
	c.stat = &st
	return nil
}

func newEmitter(ctx context.Context, o Options, yield func(snapshot.Change, error) bool) *emitter {
	return &emitter{o: o, live: func() error { return context.Cause(ctx) }, yield: yield, links: make(map[[2]uint64]string)}
}

// finish reports how a walk ended.
func (e *emitter) finish(err error) {
	if err != nil && !errors.Is(err, errStop) {
		e.yield(snapshot.Change{}, err)
	}
}

// enter goes into a directory. When it has not been emitted it will be before the first
// change in it.
func (e *emitter) enter(c candidate) { e.parents = append(e.parents, c) }

func (e *emitter) leave() { e.parents = e.parents[:len(e.parents)-1] }

func (e *emitter) send(c snapshot.Change) error {
	if err := e.live(); err != nil {
		return err
	}
	for i := range e.parents {
		p := &e.parents[i]
		if p.emitted {
			continue
		}
		p.emitted = true
		if p.stat == nil {
			if err := p.look(); err != nil {
				return err
			}
		}
		h, err := e.header(*p)
		if err != nil {
			return err
		}
		if !e.yield(snapshot.Change{Kind: snapshot.Add, Header: h}, nil) {
			return errStop
		}
	}
	if !e.yield(c, nil) {
		return errStop
	}
	return nil
}

func (e *emitter) header(c candidate) (*tar.Header, error) {
	h, err := inode.Header(c.path, c.name, c.stat)
	if err != nil {
		return nil, err
	}
	if !e.o.OneOwner {
		return h, nil
	}
	record := Owned
	switch o, ok := e.tabled(c); {
	case ok:
		h.Uid, h.Gid = o.UID, o.GID
	case mark.Bears(c.stat.Mode) && (e.o.Marks.Kept || h.Uid != int(c.stat.Uid) || h.Gid != int(c.stat.Gid)):
	case c.existed:
		record = Existed
	default:
		return h, nil
	}
	if h.PAXRecords == nil {
		h.PAXRecords = make(map[string]string)
	}
	h.PAXRecords[record] = "1"
	return h, nil
}

// tabled returns the owner that a file should have that cannot bear a mark, if it was given one.
func (e *emitter) tabled(c candidate) (mark.Owner, bool) {
	if len(e.o.Marks.Table) == 0 {
		return mark.Owner{}, false
	}
	f, _, err := mark.FileOf(unix.AT_FDCWD, c.path, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return mark.Owner{}, false
	}
	o, ok := e.o.Marks.Table[f]
	if !ok && c.origin != 0 {
		f.Ino = c.origin
		o, ok = e.o.Marks.Table[f]
	}
	return o, ok
}

func (e *emitter) remove(name string) error {
	return e.send(snapshot.Change{Kind: snapshot.Delete, Header: &tar.Header{Name: name}})
}

// add emits a file of any type but sockets.
func (e *emitter) add(kind snapshot.Kind, c candidate) error {
	h, err := e.header(c)
	if err != nil {
		return err
	}
	change := snapshot.Change{Kind: kind, Header: h}
	if h.Typeflag != tar.TypeDir && c.stat.Nlink > 1 {
		id := [2]uint64{c.stat.Dev, c.stat.Ino}
		if first, ok := e.links[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			h.Devmajor, h.Devminor = 0, 0
		} else {
			e.links[id] = c.name
		}
	}
	if h.Typeflag == tar.TypeReg && h.Size > 0 {
		size := h.Size
		change.Open = func() (io.ReadCloser, error) { return openFile(c.path, size) }
	}
	return e.send(change)
}

// openFile opens a regular file that has to have that size.
func openFile(path string, size int64) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Size != size {
		err = fmt.Errorf("size changed from %d to %d", size, st.Size)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// sameStat compares what a stat says of two files, but for times and sizes.
func sameStat(a, b *unix.Stat_t) bool {
	device := a.Mode&unix.S_IFMT == unix.S_IFCHR || a.Mode&unix.S_IFMT == unix.S_IFBLK
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && (!device || a.Rdev == b.Rdev)
}

// sameFile compares two files that may be one that a step only copied, say by a chmod to the
// mode that it had.
func sameFile(aPath string, a *unix.Stat_t, bPath string, b *unix.Stat_t) (bool, error) {
	isDir := a.Mode&unix.S_IFMT == unix.S_IFDIR
	if !sameStat(a, b) || !isDir && (a.Size != b.Size || a.Mtim != b.Mtim) {
		return false, nil
	}
	if same, err := inode.SameXattrs(aPath, bPath); !same || err != nil {
		return false, err
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		x, err := inode.Readlink(aPath)
		if err != nil {
			return false, err
		}
		y, err := inode.Readlink(bPath)
		return x == y, err
	case unix.S_IFREG:
		return sameContents(aPath, bPath, a.Size)
	}
	return true, nil
}

func sameContents(a, b string, size int64) (bool, error) {
	if size == 0 {
		return true, nil
	}
	x, err := openFile(a, size)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := openFile(b, size)
	if err != nil {
		return false, err
	}
	defer y.Close()
	const chunk = 64 << 10
	bufs := [2][]byte{make([]byte, chunk), make([]byte, chunk)}
	for left := size; left > 0; left -= chunk {
		n := min(left, chunk)
		if _, err := io.ReadFull(x, bufs[0][:n]); err != nil {
			return false, err
		}
		if _, err := io.ReadFull(y, bufs[1][:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(bufs[0][:n], bufs[1][:n]) {
			return false, nil
		}
	}
	return true, nil
}
