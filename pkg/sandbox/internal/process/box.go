package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// box is where the sources of mounts are prepared before the step's root is entered, as long as names mean the
// builder's files. It is a filesystem in memory that this mount namespace alone sees and that ends with it.
type box struct {
	spec *Spec
}

// place is where the source of mount i is found.
func (b *box) place(i int) string { return filepath.Join(b.spec.Box, strconv.Itoa(i)) }

// tree is where a tree is mounted.
func (b *box) tree(i int) string { return filepath.Join(b.spec.Box, "tree"+strconv.Itoa(i)) }

// fill prepares all sources.
func (b *box) fill() error {
	if len(b.spec.Mounts) == 0 {
		return nil
	}
	if err := mountMemory(b.spec.Box); err != nil {
		return err
	}
	for i, t := range b.spec.Trees {
		if err := os.Mkdir(b.tree(i), 0o755); err != nil {
			return fmt.Errorf("mount root: %w", err)
		}
		if err := mountTree(t, b.tree(i), b.spec.UserXattr); err != nil {
			return err
		}
	}
	for i := range b.spec.Mounts {
		m := &b.spec.Mounts[i]
		if err := b.put(m, b.place(i)); err != nil {
			return fmt.Errorf("mount on %q: %w", m.Target, err)
		}
	}
	return nil
}

// mountMemory mounts a filesystem whose contents do not go to swap space, where the kernel can be asked for that.
func mountMemory(target string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	err := mount("tmpfs", target, "tmpfs", flags, "mode=0755,noswap")
	if err != nil {
		err = mount("tmpfs", target, "tmpfs", flags, "mode=0755")
	}
	return err
}

// put prepares one source.
func (b *box) put(m *Mount, at string) error {
	switch {
	case m.Bind != nil:
		return b.part(m.Bind, at)
	case m.Host != nil:
		return bind(m.Host.Path, at)
	case m.Cache != nil:
		return b.cache(m.Cache, at)
	case m.File != nil:
		return b.file(m.File, at)
	case m.Socket != nil:
		return b.socket(m.Socket, at)
	case m.Device != nil:
		return device(m.Device.Path, at)
	}
	return nil // memory has no source
}

// part binds a part of a tree.
func (b *box) part(p *Part, at string) error {
	fd, err := openIn(b.tree(p.Tree), p.Path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return bindOpen(fd, at)
}

// file writes a file.
func (b *box) file(f *File, at string) error {
	if err := os.WriteFile(at, f.Data, 0o600); err != nil {
		return err
	}
	return b.attributes(at, f.UID, f.GID, f.Mode)
}

// socket gives a socket of the builder's the attributes that the step is to see, and binds it. They are the socket's
// own, as a mount cannot have others.
func (b *box) socket(s *Socket, at string) error {
	fi, err := os.Lstat(s.Path)
	if err != nil {
		return err
	}
	if fi.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%q is not a socket", s.Path)
	}
	if err := b.attributes(s.Path, s.UID, s.GID, s.Mode); err != nil {
		return err
	}
	return bind(s.Path, at)
}

// attributes sets owner and mode of a file. Where there is but one owner, who runs the step, too, files are that
// owner's already.
func (b *box) attributes(name string, uid, gid int, mode int64) error {
	if !b.spec.OneOwner {
		if err := os.Lchown(name, uid, gid); errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("owner %d:%d is not mapped here: give this user more subordinate ids in /etc/subuid and /etc/subgid: %w", uid, gid, err)
		} else if err != nil {
			return err
		}
	}
	return unix.Chmod(name, uint32(mode)&0o777)
}

// bindOpen binds an open file or directory on at, which is made for it.
func bindOpen(fd int, at string) error {
	return bind("/proc/self/fd/"+strconv.Itoa(fd), at)
}

// bind binds a file or directory on at, which is made for it.
func bind(source, at string) error {
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := makeEmpty(at, fi.IsDir()); err != nil {
		return err
	}
	return mount(source, at, "", unix.MS_BIND|unix.MS_REC, "")
}

// makeEmpty makes an empty file or directory.
func makeEmpty(at string, dir bool) error {
	if dir {
		return os.Mkdir(at, 0o755)
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
