package process

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxHidden is how many bytes of a file are kept in memory.
const maxHidden = 1 << 20

// hidden is a file that is in this process's memory alone.
type hidden struct {
	path string
	stat unix.Stat_t
	data []byte
}

// hide removes the files that the step must not read, until it has ended. Those that cannot be removed, such as mounts, stay.
func (b *bare) hide() error {
	if b.spec.Bare.Swap == nil {
		return nil // they are out of reach
	}
	for _, path := range b.spec.Bare.Hide {
		h, err := readHidden(path)
		if err != nil {
			return fmt.Errorf("hide %q: %w", path, err)
		}
		if h == nil {
			continue
		}
		if err := os.Remove(path); err == nil {
			b.later(h.restore)
		}
	}
	return nil
}

// readHidden returns nil for what is no file that could be hidden.
func readHidden(path string) (*hidden, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil // there is nothing to hide, or nothing that this process could read
	}
	defer f.Close()
	h := &hidden{path: path}
	if err := unix.Fstat(int(f.Fd()), &h.stat); err != nil {
		return nil, err
	}
	if h.stat.Mode&unix.S_IFMT != unix.S_IFREG || h.stat.Size > maxHidden {
		return nil, nil
	}
	h.data, err = io.ReadAll(io.LimitReader(f, maxHidden))
	return h, err
}

func (h *hidden) restore() error {
	f, err := os.OpenFile(h.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("restore hidden file: %w", err)
	}
	_, err = f.Write(h.data)
	err = errors.Join(err, unix.Fchown(int(f.Fd()), int(h.stat.Uid), int(h.stat.Gid)), unix.Fchmod(int(f.Fd()), h.stat.Mode&0o7777), f.Close())
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, h.path, []unix.Timespec{h.stat.Atim, h.stat.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("restore hidden file %q: %w", h.path, err)
	}
	return nil
}
