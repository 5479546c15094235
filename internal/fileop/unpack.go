package fileop

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/gobuild-dev/gobuild/internal/decompress"
)

// unpacker extracts a tar archive into a directory of a tree, as if chrooted into that directory: links and ".."
// do not lead out of it.
type unpacker struct {
	ctx  context.Context //nolint:containedctx // it lives for one call
	tree *tree
	dest string
	own  *owner    // of all entries; nil keeps the archive's owners
	made time.Time // mtime of parents that the archive does not mention
	src  func() (io.ReadCloser, error)

	dir   string   // for spool
	spool *os.File // contents of files, one after another; has no name
	end   int64    // of spool
}

// run extracts the archive, which is compressed with c.
func (u *unpacker) run(c decompress.Format) error {
	f, err := u.src()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r, err := decompress.NewReader(bufio.NewReaderSize(f, 64<<10), c)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	tr := tar.NewReader(r)
	for {
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.entry(h, tr); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
}

// entry extracts one entry. What is in its place is replaced, but a directory by a directory,
// which only changes its metadata. An entry for the directory that is extracted into changes nothing.
func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	if path.Clean(h.Name) == "." {
		return nil
	}
	name, err := u.target(h.Name)
	if err != nil {
		return err
	}
	old, err := u.tree.lookup(name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		n := old
		if n == nil || !n.isDir() {
			n = &node{attr: attr{typ: tar.TypeDir}}
			if err := u.tree.put(name, n); err != nil {
				return err
			}
		}
		n.update(func(n *node) { u.describe(n, h) })
		return nil
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo, tar.TypeLink:
	default:
		return fmt.Errorf("unsupported tar entry type %q", h.Typeflag)
	}
	if name == u.dest {
		return errNotDir("replace", name)
	}
	if h.Typeflag == tar.TypeLink {
		return u.hardlink(name, old, h)
	}
	n := &node{attr: attr{typ: h.Typeflag}}
	switch h.Typeflag {
	case tar.TypeSymlink:
		n.special = &special{link: h.Linkname}
	case tar.TypeChar, tar.TypeBlock:
		n.special = &special{major: h.Devmajor, minor: h.Devminor}
	}
	u.describe(n, h)
	switch n.typ {
	case tar.TypeSymlink:
		n.mode = modePerm
		if h.Linkname == "" || strings.Contains(h.Linkname, "\x00") {
			return &fs.PathError{Op: "symlink", Path: show(name), Err: syscall.EINVAL}
		}
	case tar.TypeReg, tar.TypeGNUSparse:
		n.typ, n.size = tar.TypeReg, h.Size
		if err := u.contents(n, body); err != nil {
			return err
		}
		if same, err := u.isBelow(n, old); same || err != nil {
			return err
		}
	}
	return u.tree.put(name, n)
}

// target returns where the entry name lands, with its parents made. Links in the parents are followed.
func (u *unpacker) target(name string) (string, error) {
	name = path.Clean("/" + name)
	if name == "/" {
		return u.dest, nil
	}
	dir, err := u.tree.resolve(u.dest, path.Dir(name))
	if err != nil {
		return "", err
	}
	// Parents that the archive does not mention are root's, even with Chown.
	err = u.tree.mkdirAll(dir, dirAttr{mode: defaultDirMode, owner: &owner{}, mtime: u.made})
	if err != nil {
		return "", err
	}
	return join(dir, path.Base(name)), nil
}

// describe gives n the metadata of h.
func (u *unpacker) describe(n *node, h *tar.Header) {
	a := attrOf(h)
	n.uid, n.gid, n.mode = a.uid, a.gid, a.mode
	if u.own != nil {
		n.setOwner(u.own)
	}
	n.setTime(h.ModTime)
	if h.ModTime.Before(time.Unix(0, 0)) {
		n.setTime(time.Unix(0, 0))
	}
	n.addXattrs(a.rare().xattrs)
}

// hardlink makes name a further name of the file that h names, and gives that file the metadata of h, as extracting does.
func (u *unpacker) hardlink(name string, old *node, h *tar.Header) error {
	to := path.Clean("/" + h.Linkname)
	dir, err := u.tree.resolve(u.dest, path.Dir(to))
	if err != nil {
		return err
	}
	n, err := u.tree.lookup(join(dir, path.Base(to)))
	if err != nil {
		return err
	}
	switch {
	case n == nil || n == old:
		return &fs.PathError{Op: "link", Path: h.Linkname, Err: fs.ErrNotExist}
	case n.isDir():
		return &fs.PathError{Op: "link", Path: h.Linkname, Err: syscall.EPERM}
	}
	mode := n.mode
	u.describe(n, h)
	if n.typ == tar.TypeSymlink {
		n.mode = mode
	}
	return u.tree.put(name, n)
}

// contents makes body, which is as long as n says, the contents of n.
func (u *unpacker) contents(n *node, body io.Reader) error {
	if n.size == 0 {
		return nil
	}
	if u.spool == nil {
		var err error
		if u.spool, err = newSpool(u.dir); err != nil {
			return err
		}
	}
	size, err := io.Copy(io.NewOffsetWriter(u.spool, u.end), body)
	if err != nil {
		return fmt.Errorf("spool contents: %w", err)
	}
	if size != n.size {
		return io.ErrUnexpectedEOF
	}
	n.body = &spooled{spool: u.spool, offset: u.end, size: size}
	u.end += size
	return nil
}

// isBelow reports whether the regular file n equals old, which it would replace.
func (u *unpacker) isBelow(n, old *node) (bool, error) {
	if old == nil || !old.equal(&n.attr) {
		return false, nil
	}
	if n.size > 0 && old.body.sum() != nil {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(u.spool, u.end-n.size, n.size)); err != nil {
			return false, fmt.Errorf("read spool: %w", err)
		}
		n.body.(*spooled).digest = [sha256.Size]byte(h.Sum(nil))
	}
	return old.same(n), nil
}

// spooled is the contents of an entry.
type spooled struct {
	spool        *os.File
	offset, size int64
	digest       [sha256.Size]byte
}

func (s *spooled) read() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.spool, s.offset, s.size)), nil
}

func (s *spooled) sum() *[sha256.Size]byte { return known(&s.digest) }

// newSpool returns a file that is gone when it is closed, or when the process ends.
func newSpool(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "unpack-")
	if err != nil {
		return nil, fmt.Errorf("spool contents: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spool contents: %w", err)
	}
	return f, nil
}
