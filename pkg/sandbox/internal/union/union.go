// Package union looks names up in a stack of directories the way overlayfs does, without
// mounting it.
package union

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Attributes in which overlayfs keeps what it needs: as root of the initial user namespace, and elsewhere.
const (
	TrustedPrefix = "trusted.overlay."
	UserPrefix    = "user.overlay."
)

// View is a stack of directories in overlayfs's form.
type View struct {
	// Dirs are absolute paths, the topmost first. They must not change while they are looked at.
	Dirs []string
	// UserXattr says that opaque directories are marked by user attributes.
	UserXattr bool
}

// Node is one file in the merged tree.
type Node struct {
	view *View
	// Path is where the file lies, or the topmost of the directories that are merged in it.
	Path string
	Stat unix.Stat_t
	// dirs are the directories that are merged in this one, the topmost first.
	dirs []string
}

// Root returns the root of the tree, or nil when there are no directories.
func (v *View) Root() (*Node, error) {
	if len(v.Dirs) == 0 {
		return nil, nil
	}
	n := &Node{view: v, Path: v.Dirs[0], dirs: v.Dirs}
	if err := unix.Lstat(n.Path, &n.Stat); err != nil {
		return nil, fmt.Errorf("look up %q: %w", n.Path, err)
	}
	return n, nil
}

// IsDir reports whether n is a directory. It is false for nil.
func (n *Node) IsDir() bool { return n != nil && n.Stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// Lookup returns the file of that name in directory n, or nil when there is none.
func (n *Node) Lookup(name string) (*Node, error) {
	if !n.IsDir() {
		return nil, nil
	}
	var found *Node
	for _, dir := range n.dirs {
		path := dir + "/" + name
		var st unix.Stat_t
		err := unix.Lstat(path, &st)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up %q: %w", path, err)
		}
		if IsWhiteout(&st) {
			break
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if found == nil {
			found = &Node{view: n.view, Path: path, Stat: st}
		}
		if !isDir {
			break // it is what was found, or hides what is further below
		}
		found.dirs = append(found.dirs, path)
		opaque, err := n.view.opaque(path)
		if err != nil {
			return nil, err
		}
		if opaque {
			break
		}
	}
	return found, nil
}

// IsEmpty reports whether the directory n has no files.
func (n *Node) IsEmpty() (bool, error) {
	hidden := map[string]bool{}
	for _, dir := range n.dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return false, fmt.Errorf("list directory: %w", err)
		}
		for _, e := range entries {
			if hidden[e.Name()] {
				continue
			}
			var st unix.Stat_t
			if err := unix.Lstat(dir+"/"+e.Name(), &st); err != nil {
				return false, fmt.Errorf("look up %q: %w", dir+"/"+e.Name(), err)
			}
			if !IsWhiteout(&st) {
				return false, nil
			}
			hidden[e.Name()] = true
		}
	}
	return true, nil
}

// IsWhiteout reports whether a file stands for the absence of one.
func IsWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func (v *View) opaque(path string) (bool, error) { return IsOpaque(path, v.UserXattr) }

// IsOpaque reports whether a directory hides what lower ones have of its name.
func IsOpaque(path string, userXattr bool) (bool, error) {
	var value [1]byte
	n, err := unix.Lgetxattr(path, OpaqueXattr(userXattr), value[:])
	switch {
	case err == nil:
		return n == 1 && value[0] == 'y', nil
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ERANGE), errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	}
	return false, fmt.Errorf("read attributes of %q: %w", path, err)
}

// OpaqueXattr is the attribute of opaque directories.
func OpaqueXattr(userXattr bool) string {
	if userXattr {
		return UserPrefix + "opaque"
	}
	return TrustedPrefix + "opaque"
}
