// Package idmap says which user namespace, if any, a driver needs to work as this process, and
// which ids it has there.
package idmap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// Map says which ids of the builder are which ids in a user namespace.
type Map struct {
	UIDs, GIDs []syscall.SysProcIDMap
	// Helpers says that newuidmap and newgidmap have to write the map, because this process may not.
	Helpers bool
	// SetGroups says that processes in the namespace may set their supplementary groups.
	SetGroups bool
}

// Single reports whether the map has but one user id, so that no file can have another owner.
func (m *Map) Single() bool { return total(m.UIDs) <= 1 }

func total(ids []syscall.SysProcIDMap) int {
	n := 0
	for _, r := range ids {
		n += r.Size
	}
	return n
}

// Find returns the map of the user namespace that mounts need here, or nil when this process may mount
// as it is.
//
// It prefers what gives most ids: those of this process when it may map them all, the
// subordinate ids of its user, and in the end its own id alone.
func Find() (*Map, error) {
	caps, err := effective()
	if err != nil {
		return nil, err
	}
	switch {
	case caps.has(unix.CAP_SYS_ADMIN):
		return nil, nil
	case os.Geteuid() == 0 && caps.has(unix.CAP_SETUID) && caps.has(unix.CAP_SETGID):
		return identity()
	}
	if m := subordinate(os.Geteuid(), os.Getegid()); m != nil {
		return m, nil
	}
	return &Map{
		UIDs: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GIDs: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}, nil
}

// Squashed reports whether files that this process makes without a user namespace of its own can have but
// one owner, as in the namespace of "unshare --map-root-user".
func Squashed() (bool, error) {
	ids, err := user.CurrentProcessUIDMap()
	if err != nil {
		return false, fmt.Errorf("read user id map: %w", err)
	}
	return total(ranges(ids)) <= 1, nil
}

// identity maps every id of this process to itself.
func identity() (*Map, error) {
	uids, err := user.CurrentProcessUIDMap()
	if err != nil {
		return nil, fmt.Errorf("read user id map: %w", err)
	}
	gids, err := user.CurrentProcessGIDMap()
	if err != nil {
		return nil, fmt.Errorf("read group id map: %w", err)
	}
	return &Map{UIDs: ranges(uids), GIDs: ranges(gids), SetGroups: true}, nil
}

func ranges(ids []user.IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, 0, len(ids))
	for _, r := range ids {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(r.ID), HostID: int(r.ID), Size: int(r.Count)})
	}
	return out
}

// subordinate maps root to uid and gid, and the ids from 1 to the subordinate ids that /etc/subuid and
// /etc/subgid give them. It returns nil when there are none, or nothing that may map them.
func subordinate(uid, gid int) *Map {
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(helper); err != nil {
			return nil
		}
	}
	uids := subIDs("/etc/subuid", uid)
	gids := subIDs("/etc/subgid", uid)
	if len(uids) == 0 || len(gids) == 0 {
		return nil
	}
	return &Map{UIDs: above(uid, uids), GIDs: above(gid, gids), Helpers: true, SetGroups: true}
}

// subIDs returns the ranges that file gives the user, whom it may name by number or by name.
func subIDs(file string, uid int) []user.SubID {
	names := []string{strconv.Itoa(uid)}
	if u, err := user.LookupUid(uid); err == nil {
		names = append(names, u.Name)
	}
	ids, err := user.ParseSubIDFileFilter(file, func(s user.SubID) bool {
		for _, name := range names {
			if s.Name == name {
				return true
			}
		}
		return false
	})
	if err != nil {
		return nil
	}
	return ids
}

func above(root int, subs []user.SubID) []syscall.SysProcIDMap {
	out := []syscall.SysProcIDMap{{ContainerID: 0, HostID: root, Size: 1}}
	next := 1
	for _, s := range subs {
		if s.Count <= 0 {
			continue
		}
		out = append(out, syscall.SysProcIDMap{ContainerID: next, HostID: int(s.SubID), Size: int(s.Count)})
		next += int(s.Count)
	}
	return out
}

// Write gives the new user namespace of process pid its ids by newuidmap and newgidmap.
func (m *Map) Write(ctx context.Context, pid int) error {
	return errors.Join(helper(ctx, "newuidmap", pid, m.UIDs), helper(ctx, "newgidmap", pid, m.GIDs))
}

func helper(ctx context.Context, name string, pid int, ids []syscall.SysProcIDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, r := range ids {
		args = append(args, strconv.Itoa(r.ContainerID), strconv.Itoa(r.HostID), strconv.Itoa(r.Size))
	}
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("map ids: %s: %w: %s", name, err, out)
	}
	return nil
}

type capabilities uint64

func (c capabilities) has(n int) bool { return c&(1<<n) != 0 }

// effective returns the effective capabilities of this process.
func effective() (capabilities, error) {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return capabilities(uint64(data[1].Effective)<<32 | uint64(data[0].Effective)), nil
}
