package process

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// harmlessNodes are the devices below /dev that every step has.
func harmlessNodes() []string { return []string{"null", "zero", "full", "random", "urandom", "tty"} }

// device binds a device of the builder's on at.
func device(name, at string) error {
	fi, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("find device: %w", err)
	}
	if fi.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("%q is not a device", name)
	}
	return bind(name, at)
}

// allDevices gives the step what device nodes the builder's /dev has. Those that are mounts there, such as terminals,
// it has of its own; and it does without those that may not be made.
func (m *mounter) allDevices() error {
	var dev unix.Stat_t
	err := unix.Lstat("dev", &dev)
	if errors.Is(err, unix.ENOENT) {
		return nil // there are none to give
	}
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	return m.devicesOf("dev", uint64(dev.Dev)) //nolint:unconvert // its type depends on the platform
}

func (m *mounter) devicesOf(dir string, filesystem uint64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, e := range entries {
		source := path.Join(dir, e.Name())
		var st unix.Stat_t
		if unix.Lstat(source, &st) != nil {
			continue // it has gone
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if uint64(st.Dev) == filesystem { //nolint:unconvert // its type depends on the platform
				err = m.devicesOf(source, filesystem)
			}
		case unix.S_IFCHR, unix.S_IFBLK:
			err = m.copyNode(source, &st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyNode makes a node like one of the builder's, whose path is relative, unless there is one.
func (m *mounter) copyNode(source string, st *unix.Stat_t) error {
	at := "/" + source
	if _, err := os.Lstat(at); err == nil {
		return nil
	}
	if err := makeStub(path.Dir(at), true); err != nil {
		return fmt.Errorf("make %s: %w", at, err)
	}
	err := unix.Mknod(at, st.Mode, int(st.Rdev)) //nolint:gosec // device numbers are small
	if errors.Is(err, unix.EPERM) {
		if m.put(source, at, false) != nil {
			return os.Remove(at) // the step is better off without this one than not run at all
		}
		return nil
	}
	if err == nil {
		_ = os.Lchown(at, int(st.Uid), int(st.Gid)) // as far as there are other owners
		err = unix.Chmod(at, st.Mode&0o7777)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", at, err)
	}
	return nil
}
