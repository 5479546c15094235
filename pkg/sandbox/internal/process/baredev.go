package process

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// system makes the directories on which every program expects the kernel's filesystems, which stay as in other
// drivers, and for a step that enters its root by chroot a /dev.
func (b *bare) system() error {
	for _, base := range []string{"proc", "dev", "sys"} {
		st, err := statAt(b.root, base)
		switch {
		case err == nil && st == nil:
			err = keepTimesAt(b.root, func() error { return unix.Mkdirat(b.root, base, 0o755) })
		case err == nil && base != "dev" && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			err = errors.New("the image has something there that is not a directory")
		}
		if err != nil {
			return fmt.Errorf("mount on %q: %w", "/"+base, err)
		}
	}
	if b.spec.Bare.Swap != nil {
		return nil
	}
	return b.dev()
}

// dev puts a /dev in the place of the image's, which may be a link.
func (b *bare) dev() error {
	from := filepath.Join(b.spec.Box, "dev")
	if err := makeDev(from); err != nil {
		return fmt.Errorf("make /dev: %w", err)
	}
	p := placed{covered: from + ".covered"}
	err := b.inRoot(func() (err error) {
		p.at, err = target("/dev")
		return err
	})
	if err != nil {
		return fmt.Errorf("mount on /dev: %w", err)
	}
	if p.parent, err = b.makeParents(b.root, path.Dir(p.at)); err != nil {
		return fmt.Errorf("mount on /dev: %w", err)
	}
	p.base = path.Base(p.at)
	covered, err := statAt(p.parent, p.base)
	if err != nil {
		return fmt.Errorf("mount on /dev: %w", err)
	}
	if p.was = covered; covered == nil {
		p.covered = ""
	}
	if err := p.put(from); err != nil {
		return fmt.Errorf("mount on /dev: %w", err)
	}
	b.later(func() error { return b.takeOut(&p, from) })
	return nil
}

// makeDev makes a /dev with the harmless nodes. A container that may not make them has plain files.
func makeDev(dir string) error {
	for _, d := range []struct {
		name string
		mode uint32
	}{{dir, 0o755}, {filepath.Join(dir, "shm"), 0o1777}} {
		if err := os.Mkdir(d.name, 0o700); err != nil {
			return err
		}
		if err := unix.Chmod(d.name, d.mode); err != nil {
			return err
		}
	}
	for _, base := range harmlessNodes() {
		at := filepath.Join(dir, base)
		err := bareDevice(filepath.Join("/dev", base), at)
		if errors.Is(err, unix.EPERM) {
			err = os.WriteFile(at, nil, 0o600)
			if err == nil {
				err = unix.Chmod(at, 0o666)
			}
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
