package swap

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
)

// moves are the files of the stage that are renamed.
type moves map[fileID]*move

type fileID struct{ dev, ino uint64 }

// move is what renaming does to a file, which may have several names, in both directions: its times of change before the first name was
// renamed and after the last one was.
type move struct {
	in, out   [2]int64
	returning bool
}

// in renames a file of the stage into the root, and out back.
func (m moves) in(from, to string) error {
	id, times, err := rename(from, to)
	if err != nil {
		return err
	}
	if seen, ok := m[id]; ok {
		seen.in[1] = times[1]
	} else {
		m[id] = &move{in: times}
	}
	return nil
}

func (m moves) out(from, to string) error {
	id, times, err := rename(from, to)
	seen, ok := m[id]
	if err != nil || !ok {
		return err
	}
	if !seen.returning {
		seen.returning, seen.out[0] = true, times[0]
	}
	seen.out[1] = times[1]
	return nil
}

// untouched lists the files that nobody has changed in between.
func (m moves) untouched() diff.Moved {
	list := make(diff.Moved)
	for id, f := range m {
		if f.returning && f.in[1] == f.out[0] {
			list[[2]uint64{id.dev, id.ino}] = struct{ Before, After int64 }{f.in[0], f.out[1]}
		}
	}
	return list
}

// rename renames a file and returns its times of change before and after.
func rename(from, to string) (id fileID, times [2]int64, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return id, times, &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	id, times[0] = fileID{st.Dev, st.Ino}, st.Ctim.Nano()
	if err := os.Rename(from, to); err != nil {
		return id, times, err
	}
	if err := unix.Lstat(to, &st); err != nil {
		return id, times, &os.PathError{Op: "lstat", Path: to, Err: err}
	}
	times[1] = st.Ctim.Nano()
	return id, times, nil
}
