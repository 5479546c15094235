package overlay

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

var _ sandbox.Reader = (*Driver)(nil)

// locate notes where the files of a layer are.
func (d *Driver) locate(diffID v1.Hash, dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirs[diffID] = dir
}

// Contents implements sandbox.Reader. What lies in the directory of a layer is the layer's file if it has its size and time:
// nothing that runs in a root can write there.
func (d *Driver) Contents(diffID v1.Hash, rec *rootfs.Record) (io.ReadCloser, error) {
	d.mu.Lock()
	dir := d.dirs[diffID]
	d.mu.Unlock()
	if dir == "" {
		return nil, fs.ErrNotExist
	}
	f, err := openBeneath(dir, rec.Header.Name)
	if err != nil {
		// Whatever is in the way, such as the owner's namespace, the layer has the bytes too.
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != rec.Header.Size || !fi.ModTime().Equal(rec.Header.ModTime) {
		f.Close()
		return nil, fs.ErrNotExist
	}
	return f, nil
}

// openBeneath opens a file, but no link and nothing behind one.
func openBeneath(dir, name string) (*os.File, error) {
	parent, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(parent)
	fd, err := unix.Openat2(parent, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
