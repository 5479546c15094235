package process

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountTree mounts a tree on a directory.
func mountTree(t Tree, target string, userXattr bool) error {
	if t.Dir != "" {
		return mount(t.Dir, target, "", unix.MS_BIND|unix.MS_REC, "")
	}
	o := t.Overlay
	if err := unix.Chdir(o.Dir); err != nil {
		return fmt.Errorf("mount overlay: enter %q: %w", o.Dir, err)
	}
	options := o.options(userXattr)
	if page := os.Getpagesize(); len(options) >= page-len(",volatile") {
		return fmt.Errorf("mount overlay: %d layers are too many", len(o.Lower))
	}
	if o.Upper == "" {
		return mount("overlay", target, "overlay", unix.MS_RDONLY, options)
	}
	// Without syncing, as it is the page cache alone from which layers are read.
	err := mount("overlay", target, "overlay", 0, options+",volatile")
	if errors.Is(err, unix.EINVAL) {
		err = mount("overlay", target, "overlay", 0, options) // Linux before 5.10 must sync
	}
	return err
}

// options are those of the mount, relative to o.Dir.
func (o Overlay) options(userXattr bool) string {
	dirs := "lowerdir=" + strings.Join(o.Lower, ":")
	if o.Upper != "" {
		dirs += ",upperdir=" + o.Upper + ",workdir=" + o.Work
	}
	if userXattr {
		return dirs + ",userxattr" // which implies the other three
	}
	// No inode index and no redirects: a directory of which a layer is made must mean the same when
	// it is mounted elsewhere.
	return dirs + ",index=off,metacopy=off,redirect_dir=off"
}
