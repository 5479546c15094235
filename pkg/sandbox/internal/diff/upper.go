package diff

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Upper returns what the upper directory of an overlay changes in the directories below it. None
// of them may change until the sequence has been consumed.
func Upper(ctx context.Context, upper string, lower *union.View, o Options) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		u := &upperWalk{emitter: newEmitter(ctx, o, yield), userXattr: lower.UserXattr}
		root, err := lower.Root()
		if err == nil {
			err = u.dir(upper, "", root)
		}
		u.finish(err)
	}
}

type upperWalk struct {
	*emitter
	userXattr bool
}

// dir emits the changes in one directory. below is what the lower directories have in its place: nil when
// they have nothing or it is hidden.
func (u *upperWalk) dir(dir, name string, below *union.Node) error {
	names, err := readNames(dir)
	if err != nil {
		return err
	}
	for _, base := range names {
		var lower *union.Node
		if lower, err = below.Lookup(base); err != nil {
			return err
		}
		if err := u.file(candidate{path: dir + "/" + base, name: path.Join(name, base)}, lower); err != nil {
			return err
		}
	}
	return nil
}

func (u *upperWalk) file(c candidate, lower *union.Node) error {
	if err := c.look(); err != nil {
		return err
	}
	st := *c.stat
	c.existed = lower != nil && lower.Stat.Mode&unix.S_IFMT == st.Mode&unix.S_IFMT
	if lower != nil {
		c.origin = lower.Stat.Ino
	}
	if union.IsWhiteout(&st) {
		if lower == nil {
			return nil
		}
		return u.remove(c.name)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return u.directory(c, lower)
	}
	if _, ok := inode.Type(st.Mode); !ok {
		return nil // a socket, which no image has
	}
	if _, given := u.tabled(c); c.existed && !given {
		same, err := sameFile(c.path, &st, lower.Path, &lower.Stat)
		if same || err != nil {
			return err
		}
	}
	return u.add(snapshot.Add, c)
}

func (u *upperWalk) directory(c candidate, lower *union.Node) error {
	opaque, err := union.IsOpaque(c.path, u.userXattr)
	if err != nil {
		return err
	}
	if !lower.IsDir() {
		lower = nil
	}
	if opaque && lower != nil {
		empty, err := lower.IsEmpty()
		if err != nil {
			return err
		}
		opaque = !empty // a directory that was removed and made again hides nothing then
	}
	kind, same := snapshot.Add, false
	switch {
	case lower == nil:
	case opaque:
		kind, lower = snapshot.Opaque, nil
	default:
		if same, err = sameFile(c.path, c.stat, lower.Path, &lower.Stat); err != nil {
			return err
		}
	}
	if !same {
		if err := u.add(kind, c); err != nil {
			return err
		}
		c.emitted = true
	}
	u.enter(c)
	defer u.leave()
	return u.dir(c.path, c.name, lower)
}

// readNames returns the names in a directory, sorted bytewise.
func readNames(dir string) ([]string, error) {
	f, err := openDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	defer f.Close()
	names, err := namesIn(f)
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return names, nil
}

func openDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		f, err = os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	}
	return f, err
}

// namesIn returns the names in an open directory, sorted bytewise.
func namesIn(f *os.File) ([]string, error) {
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
