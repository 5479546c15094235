package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxUserFile bounds what is read of /etc/passwd and /etc/group, in bytes.
const maxUserFile = 10 << 20

// identity is who runs a program.
type identity struct {
	uid, gid int
	groups   []int // supplementary ones, the primary one among them
	home     string
}

// lookUpUser finds the user of a USER instruction in the root's own files. An empty name is root, who need
// not be in them.
func lookUpUser(name string) (identity, error) {
	who, err := execUser(name)
	if err != nil {
		return identity{}, err
	}
	if !slices.Contains(who.groups, who.gid) {
		who.groups = append([]int{who.gid}, who.groups...)
	}
	if who.home = homeOf(who.uid); who.home == "" {
		who.home = "/"
	}
	return who, nil
}

func execUser(name string) (identity, error) {
	if uid, gid, ok := numeric(name); ok {
		return identity{uid: uid, gid: gid}, nil
	}
	spec := name
	if spec == "" {
		spec = "0"
	}
	passwd, err := openUserFile("/etc/passwd")
	if err != nil {
		return identity{}, err
	}
	defer passwd.Close()
	group, err := openUserFile("/etc/group")
	if err != nil {
		return identity{}, err
	}
	defer group.Close()
	found, err := user.GetExecUser(spec, nil, passwd, group)
	switch {
	case err != nil && name == "":
		return identity{}, nil
	case err != nil:
		return identity{}, err
	}
	return identity{uid: found.Uid, gid: found.Gid, groups: found.Sgids}, nil
}

// numeric takes the form "uid:gid", for which no file is looked at; "root" is a number here.
func numeric(name string) (uid, gid int, ok bool) {
	u, g, ok := strings.Cut(name, ":")
	if !ok {
		return 0, 0, false
	}
	var ids [2]int
	for i, s := range []string{u, g} {
		if s == "root" {
			continue
		}
		id, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return 0, 0, false
		}
		ids[i] = int(id)
	}
	return ids[0], ids[1], true
}

func homeOf(uid int) string {
	passwd, err := openUserFile("/etc/passwd")
	if err != nil {
		return ""
	}
	defer passwd.Close()
	users, err := user.ParsePasswdFilter(passwd, func(u user.User) bool { return u.Uid == uid })
	if err != nil || len(users) == 0 {
		return ""
	}
	return users[0].Home
}

// openUserFile opens a file of the root for reading; a missing one is empty. It does not wait for the writer of a FIFO.
func openUserFile(name string) (io.ReadCloser, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up user: %w", err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err == nil && fi.Size() > maxUserFile {
		err = fmt.Errorf("%s exceeds %d bytes", name, maxUserFile)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("look up user: %w", err)
	}
	return f, nil
}

// credential is nil for the root of a namespace in which nobody may change groups.
func (i identity) credential() *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(i.uid), Gid: uint32(i.gid)}
	for _, g := range i.groups {
		c.Groups = append(c.Groups, uint32(g))
	}
	if deny, err := os.ReadFile("/proc/self/setgroups"); err == nil && strings.TrimSpace(string(deny)) == "deny" {
		c.Groups, c.NoSetGroups = nil, true
	}
	return c
}

// own makes the user the owner of a file.
func (i identity) own(name string) error {
	err := os.Lchown(name, i.uid, i.gid)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("user %d is not mapped here: %w", i.uid, err)
	}
	return err
}
