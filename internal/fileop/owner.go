package fileop

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/user"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// owner is whom a file belongs to.
type owner struct{ uid, gid int }

// ownerSpec is a parsed --chown or USER. The zero value says nothing about owners.
type ownerSpec struct {
	text        string
	user, group string // names to look up
	uid, gid    int    // where there is no name; gid is uid where there is no number for it
	hasGroup    bool
}

// maxUserFile bounds what is read of /etc/passwd and /etc/group, in bytes.
const maxUserFile = 10 << 20

// parseOwner reads "user", "user:group", "user:" and ":group". A user without a group has, when
// numeric, the group of the same number, and when named, the group that /etc/passwd says.
func parseOwner(s string) (ownerSpec, error) {
	o := ownerSpec{text: s}
	if s == "" {
		return o, nil
	}
	u, g, _ := strings.Cut(s, ":")
	var err error
	if o.user, o.uid, err = parseID(u); err != nil {
		return o, fmt.Errorf("parse owner %q: %w", s, err)
	}
	o.gid = o.uid
	if g == "" {
		return o, nil
	}
	name, id, err := parseID(g)
	if err != nil {
		return o, fmt.Errorf("parse owner %q: %w", s, err)
	}
	if o.group, o.hasGroup = name, true; name == "" {
		o.gid = id
	}
	return o, nil
}

// parseID returns the number that s is, or s as a name. Root needs no /etc/passwd.
func parseID(s string) (name string, id int, err error) {
	if s == "" || s == "root" {
		return "", 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	switch {
	case err == nil && n >= 0:
		return "", int(n), nil
	case err == nil || errors.Is(err, strconv.ErrRange):
		return "", 0, fmt.Errorf("id %s is not between 0 and 2147483647", s)
	}
	return s, 0, nil
}

// named reports whether base's files are needed to know the owner.
func (o ownerSpec) named() bool { return o.user != "" || o.group != "" }

// lookup returns the owner, or nil when the spec is empty. Names are looked up in base, which may be
// nil.
//
// A name that is not found is an error when strict. Otherwise, as in BuildKit, an unknown user is root, and an
// unknown group is the one that the user would have without it.
func (o ownerSpec) lookup(base rootfs.Tree, strict bool) (*owner, error) {
	if o.text == "" {
		return nil, nil
	}
	own := &owner{o.uid, o.gid}
	if o.user != "" {
		err := o.find(base, "user", o.user, "/etc/passwd", strict, func(r io.Reader) (bool, error) {
			us, err := user.ParsePasswdFilter(r, func(u user.User) bool { return u.Name == o.user })
			if len(us) > 0 {
				own.uid, own.gid = us[0].Uid, us[0].Gid
			}
			return len(us) > 0, err
		})
		if err != nil {
			return nil, err
		}
	}
	if !o.hasGroup {
		return own, nil
	}
	if o.group == "" {
		own.gid = o.gid
		return own, nil
	}
	err := o.find(base, "group", o.group, "/etc/group", strict, func(r io.Reader) (bool, error) {
		gs, err := user.ParseGroupFilter(r, func(g user.Group) bool { return g.Name == o.group })
		if len(gs) > 0 {
			own.gid = gs[0].Gid
		}
		return len(gs) > 0, err
	})
	if err != nil {
		return nil, err
	}
	return own, nil
}

// find has parse look for a name in a file of base.
func (o ownerSpec) find(base rootfs.Tree, kind, name, file string, strict bool, parse func(io.Reader) (bool, error)) error {
	found := false
	err := readUserFile(base, file, func(r io.Reader) (err error) {
		found, err = parse(r)
		return err
	})
	if err == nil && !found && strict {
		err = fmt.Errorf("look up owner %q: %s %q is not in %s of the image; use a numeric id", o.text, kind, name, file)
	}
	return err
}

// readUserFile calls parse with the file name of base, links followed inside base. What is not
// there, or is no file, has no names in it: parse is not called.
func readUserFile(base rootfs.Tree, name string, parse func(io.Reader) error) error {
	if base == nil {
		return nil
	}
	var fi fs.FileInfo
	p, err := rootfs.Resolve(base, name)
	if err == nil {
		fi, err = base.Lstat(p)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !fi.Mode().IsRegular() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if fi.Size() > maxUserFile {
		return fmt.Errorf("read %s: larger than %d bytes", name, maxUserFile)
	}
	f, err := base.Open(p)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	if err := parse(io.LimitReader(f, maxUserFile)); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
