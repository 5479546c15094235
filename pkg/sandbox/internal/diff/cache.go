package diff

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// In returns the record of a directory that has the one of r in it, as name.
func (r *Record) In(name string) *Record {
	root := *r.Root
	root.Name = name
	r = None()
	r.Root.Children = []*Node{&root}
	return r
}

// None is the record of an empty directory.
func None() *Record { return &Record{&Node{Name: ".", Stamp: Stamp{Mode: unix.S_IFDIR}}} }

// FileBytes is the size of all regular files, each name of which counts.
func (r *Record) FileBytes() (n int64) {
	r.Root.walk(func(f *Node) {
		if f.Stamp.kind() == unix.S_IFREG {
			n += f.Stamp.Size
		}
	})
	return n
}

func (n *Node) walk(visit func(*Node)) {
	visit(n)
	for _, c := range n.Children {
		c.walk(visit)
	}
}

// Doubt makes everything that has changed since a time, while the record may have been made, look changed to those who compare
// with the record later.
func (r *Record) Doubt(since time.Time) {
	r.Root.walk(func(n *Node) {
		if n.Stamp.Ctime >= since.UnixNano() {
			n.Stamp.Ctime = 0
		}
	})
}

// Begin returns a time before which everything has changed that changes before the call, and nothing that changes after it.
func Begin(ctx context.Context) (time.Time, error) {
	if err := Settle(ctx); err != nil {
		return time.Time{}, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		return time.Time{}, fmt.Errorf("read clock: %w", err)
	}
	return time.Unix(now.Unix()), nil
}

// ForgiveTimes gives files in before that have other modification times in after those of after, so that Doubtful has them.
func ForgiveTimes(before, after *Record) {
	pairs(before.Root, after.Root, "", func(_ string, a, b *Node) bool {
		if a == nil || b == nil {
			return false
		}
		if !a.Stamp.isDir() && a.Stamp != b.Stamp {
			a.Stamp.Mtime = b.Stamp.Mtime
		}
		return a.Stamp.isDir() && b.Stamp.isDir()
	})
}

// File is a path in layers.
type File struct {
	Name string
	Dir  bool
}

// Rebase is the record of a directory as it would be with the files of base alone, which come as they are walked. Those in touched
// are taken for others than those of r, the record with all layers.
func (r *Record) Rebase(base []File, touched map[string]bool) *Record {
	out := None()
	above := []*Node{out.Root} // of the last file, from the root down
	for _, f := range base {
		if f.Name == "." {
			continue
		}
		dir, name := path.Split(f.Name)
		above = above[:1+strings.Count(dir, "/")]
		n := &Node{Name: name, Stamp: Stamp{Mode: unix.S_IFREG, UID: ^uint32(0)}} // like no file that there is
		if f.Dir {
			n.Stamp.Mode = unix.S_IFDIR
		}
		if same := r.find(f.Name); same != nil && !touched[f.Name] && same.Stamp.isDir() == f.Dir {
			n.Stamp = same.Stamp
		}
		parent := above[len(above)-1]
		parent.Children = append(parent.Children, n)
		above = append(above, n)
	}
	return out
}

// find returns the node of a clean path, nil if there is none.
func (r *Record) find(name string) *Node {
	n := r.Root
	for part := range strings.SplitSeq(name, "/") {
		i, ok := sort.Find(len(n.Children), func(i int) int { return strings.Compare(part, n.Children[i].Name) })
		if !ok {
			return nil
		}
		n = n.Children[i]
	}
	return n
}

// Steady passes changes on, and ends with an error if a file among them is not, at the end, what the record of dir says.
func Steady(dir string, r *Record, changes snapshot.Changes) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		var names []string
		for c, err := range changes {
			if !yield(c, err) || err != nil {
				return
			}
			if c.Kind == snapshot.Add && c.Header.Typeflag != tar.TypeDir {
				names = append(names, c.Header.Name)
			}
		}
		for _, name := range names {
			if err := unchanged(dir+"/"+name, r.find(name)); err != nil {
				yield(snapshot.Change{}, err)
				return
			}
		}
	}
}

func unchanged(path string, n *Node) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if n == nil || stampOf(&st) != n.Stamp {
		return fmt.Errorf("read %q: %w", path, errUnsteady)
	}
	return nil
}

var errUnsteady = errors.New("file changed while it was read")

// Single leaves out files that have several names, of which one may be new although the file is not.
func Single(dir string, names []string) (single []string, err error) {
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/"+name, &st); err != nil {
			return nil, &os.PathError{Op: "lstat", Path: dir + "/" + name, Err: err}
		}
		if st.Nlink == 1 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			single = append(single, name)
		}
	}
	return single, nil
}
