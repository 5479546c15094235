package diff

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
)

// Record is what was in a directory at one time.
type Record struct {
	Root *Node
}

// Moved are files, by device and inode, of which renaming has set the time of their last change, and nothing else has.
type Moved map[[2]uint64]struct{ Before, After int64 } // nanoseconds

// Adjust gives files that were moved the time of change that they have now.
func (r *Record) Adjust(m Moved) {
	if len(m) > 0 {
		m.adjust(r.Root)
	}
}

func (m Moved) adjust(n *Node) {
	t, ok := m[[2]uint64{n.Stamp.Dev, n.Stamp.Ino}]
	if ok && n.Stamp.Ctime == t.Before {
		n.Stamp.Ctime = t.After
	}
	for _, child := range n.Children {
		m.adjust(child)
	}
}

// Node is one file of a Record.
type Node struct {
	Name     string
	Stamp    Stamp
	Children []*Node // of a directory, sorted by name
}

// Stamp is what changes when a file does. The change time is the kernel's own and cannot be set, so that a file with the same
// stamp is the same.
type Stamp struct {
	Dev, Ino, Rdev uint64
	Size           int64
	Mode, UID, GID uint32
	Mtime, Ctime   int64 // nanoseconds
}

func stampOf(st *unix.Stat_t) Stamp {
	return Stamp{
		Dev: st.Dev, Ino: st.Ino, Rdev: st.Rdev, Size: st.Size,
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}
}

func (s *Stamp) kind() uint32 { return s.Mode & unix.S_IFMT }

func (s *Stamp) isDir() bool { return s.kind() == unix.S_IFDIR }

// scanners is how many directories are read at a time. Even on one core two are faster than one where the
// disk has to be waited for.
const scanners = 4

// Scan makes a record of a directory. Where there is one owner it has the owners that files are marked with.
func Scan(ctx context.Context, dir string, o Options) (*Record, error) {
	s := &scan{marks: o.OneOwner, live: func() error { return context.Cause(ctx) }, slots: make(chan struct{}, scanners)}
	root := &Node{Name: "."}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, fmt.Errorf("scan directory: %w", &os.PathError{Op: "lstat", Path: dir, Err: err})
	}
	root.Stamp = s.stamp(dir, &st)
	s.dir(dir, root)
	s.wait.Wait()
	if s.err != nil {
		return nil, fmt.Errorf("scan directory: %w", s.err)
	}
	return &Record{root}, nil
}

type scan struct {
	marks bool         // are looked at
	live  func() error // returns an error when nobody wants the record any more
	slots chan struct{}
	wait  sync.WaitGroup

	mu  sync.Mutex
	err error
}

func (s *scan) stamp(path string, st *unix.Stat_t) Stamp {
	stamp := stampOf(st)
	if s.marks && mark.Bears(st.Mode) {
		if o, ok := mark.Read(path); ok {
			stamp.UID, stamp.GID = uint32(o.UID), uint32(o.GID) //nolint:gosec // ids have 32 bits
		}
	}
	return stamp
}

func (s *scan) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// dir reads a directory, in goroutines of their own for those below while there are slots.
func (s *scan) dir(dir string, n *Node) {
	if err := s.live(); err != nil {
		s.fail(err)
		return
	}
	if err := s.list(dir, n); err != nil {
		s.fail(err)
		return
	}
	for _, child := range n.Children {
		if !child.Stamp.isDir() {
			continue
		}
		select {
		case s.slots <- struct{}{}:
			s.wait.Go(func() {
				s.dir(dir+"/"+child.Name, child)
				<-s.slots
			})
		default:
			s.dir(dir+"/"+child.Name, child)
		}
	}
}

// list describes what is in a directory. Files are looked up in the open directory: from the root of the file system, through all
// directories on the way, a scan takes twice as long (BenchmarkScan), and more on overlayfs.
func (s *scan) list(dir string, n *Node) error {
	f, err := openDir(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := namesIn(f)
	if err != nil {
		return err
	}
	fd := int(f.Fd())
	n.Children = make([]*Node, 0, len(names))
	nodes := make([]Node, len(names)) // at once, which is cheaper than one by one
	for i, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		path := dir + "/" + name
		if err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		nodes[i] = Node{Name: name, Stamp: s.stamp(path, &st)}
		n.Children = append(n.Children, &nodes[i])
	}
	return nil
}

// Settle waits until a change made from now on is sure to be seen: file systems take their times from a clock that
// stands still for some milliseconds.
func Settle(ctx context.Context) error {
	var start, now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &start); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	for {
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			return fmt.Errorf("read clock: %w", err)
		}
		if now != start {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// Doubtful returns the paths whose stamp in the record of dir's present state is another than before, although
// everything that the change stream would say of them but their contents and attributes is the same.
// Directories, which change with what is in them, are only among them when they have extended attributes.
func Doubtful(dir string, before, after *Record) ([]string, error) {
	var out []string
	var err error
	pairs(before.Root, after.Root, "", func(name string, a, b *Node) bool {
		if err != nil || a == nil || b == nil {
			return false
		}
		isDir := a.Stamp.isDir() && b.Stamp.isDir()
		if a.Stamp == b.Stamp || !looksSame(&a.Stamp, &b.Stamp) {
			return isDir
		}
		var attrs map[string]string
		if isDir {
			attrs, err = inode.Xattrs(dir + "/" + name)
		}
		if !isDir || len(attrs) > 0 {
			out = append(out, name)
		}
		return isDir
	})
	return out, err
}

// looksSame compares what the change stream says.
func looksSame(a, b *Stamp) bool {
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID {
		return false
	}
	switch a.kind() {
	case unix.S_IFDIR:
		return true
	case unix.S_IFCHR, unix.S_IFBLK:
		return a.Rdev == b.Rdev && a.Mtime == b.Mtime
	}
	return a.Size == b.Size && a.Mtime == b.Mtime
}

// pairs walks two records side by side in order of names; one node of a pair may be nil. visit says whether to
// go on below. It is not called for files with one stamp in both, which nearly all are.
func pairs(a, b *Node, dir string, visit func(name string, a, b *Node) bool) {
	i, j := 0, 0
	for i < len(a.Children) || j < len(b.Children) {
		var x, y *Node
		switch {
		case j == len(b.Children) || i < len(a.Children) && a.Children[i].Name < b.Children[j].Name:
			x = a.Children[i]
			i++
		case i == len(a.Children) || b.Children[j].Name < a.Children[i].Name:
			y = b.Children[j]
			j++
		default:
			x, y = a.Children[i], b.Children[j]
			i++
			j++
			if x.Stamp == y.Stamp && !x.Stamp.isDir() {
				continue
			}
		}
		named := x
		if named == nil {
			named = y
		}
		name := named.Name
		if dir != "" {
			name = dir + "/" + name
		}
		if visit(name, x, y) {
			pairs(x, y, name, visit)
		}
	}
}
