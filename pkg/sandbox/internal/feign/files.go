package feign

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
)

// files knows the owners that files should have.
type files struct {
	// root is the device of the root directory.
	root uint64

	mu sync.Mutex
	// others have no mark, by their device.
	others map[uint64]mark.Table
}

func (f *files) init(special map[string]mark.Owner, table mark.Table) error {
	var err error
	if _, f.root, err = mark.FileOf(unix.AT_FDCWD, "/", 0); err != nil {
		return fmt.Errorf("look at root: %w", err)
	}
	if _, err := unix.Getxattr("/", mark.Xattr, nil); errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: owners cannot be noted on files, whose filesystem has no attributes", ErrUnavailable)
	}
	f.others = make(map[uint64]mark.Table)
	known := make(mark.Table, len(special)+len(table))
	maps.Copy(known, table)
	for name, o := range special {
		// Something may be mounted where the file was.
		if file, device, err := mark.FileOf(unix.AT_FDCWD, "/"+name, unix.AT_SYMLINK_NOFOLLOW); err == nil && device == f.root {
			known[file] = o
		}
	}
	if len(known) > 0 {
		f.others[f.root] = known
	}
	return nil
}

func (f *files) onRoot() mark.Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.others[f.root]
}

func (f *files) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.others) == 0
}

// owner returns the owner that a file should have, or false if that is the one that it has.
func (f *files) owner(p place) (mark.Owner, bool) {
	read := mark.Read
	if p.follow {
		read = mark.Follow
	}
	if o, ok := read(p.name); ok {
		return o, true
	}
	if f.empty() {
		return mark.Owner{}, false
	}
	file, device, err := mark.FileOf(unix.AT_FDCWD, p.name, p.flags())
	if err != nil {
		return mark.Owner{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.others[device][file]
	return o, ok
}

// own notes the owner that an open file should have.
func (f *files) own(fd int, mode uint32, o mark.Owner) error {
	if mark.Bears(mode) {
		err := f.mark(fd, o)
		if err == nil || !unmarkable(err) {
			return err
		}
	}
	file, device, err := mark.FileOf(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.others[device] == nil {
		f.others[device] = make(mark.Table)
	}
	f.others[device][file] = o
	return nil
}

// unmarkable reports whether the file's filesystem has no attributes, or no room for them.
func unmarkable(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC)
}

func (f *files) mark(fd int, o mark.Owner) error {
	if o != (mark.Owner{}) {
		return unix.Setxattr(descriptor(fd), mark.Xattr, o.Value(), 0)
	}
	err := unix.Removexattr(descriptor(fd), mark.Xattr)
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}

// chownPath is chown with its path and ids in arguments.
func (r *request) chownPath(dir, name, ids, flags int) answer {
	path, err := r.string(name)
	if err != nil || path == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return proceed()
	}
	return r.chown(dir, path, r.id(ids), r.id(ids+1), flags)
}

// chown gives a file another owner. What the kernel does besides, it does: the file gets the one owner that there is.
func (r *request) chown(dir int, name string, uid, gid uint32, flags int) answer {
	fd, err := r.open(dir, name, flags&unix.AT_SYMLINK_NOFOLLOW == 0)
	if err != nil {
		return proceed() // it will find out the same
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || !r.valid() {
		return proceed()
	}
	o := r.session.ownerOf(fd, &st)
	if !r.mayChown(o, uid, gid) {
		return answer{errno: unix.EPERM}
	}
	realUID, realGID := -1, -1
	if uid != unchanged {
		o.UID, realUID = int(uid), 0
	}
	if gid != unchanged {
		o.GID, realGID = int(gid), 0
	}
	if err := unix.Fchownat(fd, "", realUID, realGID, unix.AT_EMPTY_PATH); err != nil {
		return failed(err)
	}
	if uid == unchanged && gid == unchanged {
		return done()
	}
	if err := r.session.files.own(fd, st.Mode, o); err != nil {
		return failed(err)
	}
	return done()
}

// ownerOf returns the owner that processes see.
func (s *Session) ownerOf(fd int, st *unix.Stat_t) mark.Owner {
	if o, ok := s.files.owner(openedPlace(fd)); ok {
		return o
	}
	return mark.Owner{UID: int(st.Uid), GID: int(st.Gid)}
}

// mayChown is the kernel's rule: but for root, files can only be given to a group of their owner's.
func (r *request) mayChown(o mark.Owner, uid, gid uint32) bool {
	who := r.who()
	if who.privileged() || uid == unchanged && gid == unchanged {
		return true
	}
	if uint32(o.UID) != who.User.Files || uid != unchanged && uid != who.User.Files { //nolint:gosec // ids have 32 bits
		return false
	}
	return gid == unchanged || gid == uint32(o.GID) || who.in(gid) //nolint:gosec // ids have 32 bits
}

// in reports whether a process is in a group.
func (w *Identity) in(gid uint32) bool {
	for _, g := range w.Groups {
		if g == gid {
			return true
		}
	}
	return gid == w.Group.Files
}
