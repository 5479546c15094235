package feign

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Identity is who a process takes itself for.
type Identity struct {
	User, Group IDs
	// Groups are the supplementary ones.
	Groups []uint32

	// keeps says that who becomes another user than root keeps capabilities, kept that somebody has.
	keeps, kept bool
}

// IDs are those that a process has of users, or of groups.
type IDs struct{ Real, Effective, Saved, Files uint32 }

// All are IDs that are the same.
func All(id uint32) IDs { return IDs{id, id, id, id} }

// unchanged stands for an id in calls that leave it as it is.
const unchanged = ^uint32(0)

// identities knows who is who.
//
// The kernel carries an identity from a process to those that it starts: a number of it is the soft limit of RLIMIT_LOCKS, which limits
// nothing since Linux 2.4.25. Processes whose limit nobody has set are the first of the list. What they do about this limit
// themselves, as PAM does, is not done.
type identities struct {
	mu     sync.Mutex
	list   []Identity
	number map[string]int
}

// maxIdentities bounds the memory that a step can have its supervisor use.
const maxIdentities = 1 << 16

func (i *identities) get(n uint64) Identity {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n < uint64(len(i.list)) {
		return i.list[n]
	}
	return i.list[0]
}

// put returns the number of an identity, which is never 0.
func (i *identities) put(who Identity) (int, bool) {
	key := fmt.Sprint(who)
	i.mu.Lock()
	defer i.mu.Unlock()
	if n, ok := i.number[key]; ok {
		return n, true
	}
	if len(i.list) == maxIdentities {
		return 0, false
	}
	if i.number == nil {
		i.number = make(map[string]int)
	}
	n := len(i.list)
	i.list = append(i.list, who)
	i.number[key] = n
	return n, true
}

// who returns whom the caller takes itself for.
func (r *request) who() Identity {
	var limit unix.Rlimit
	if err := unix.Prlimit(int(r.pid), unix.RLIMIT_LOCKS, nil, &limit); err != nil || limit.Cur == limit.Max {
		return r.session.ids.get(0)
	}
	return r.session.ids.get(limit.Cur)
}

// become makes the caller somebody else.
func (r *request) become(who Identity) answer {
	n, ok := r.session.ids.put(who)
	if !ok {
		return answer{errno: unix.EAGAIN}
	}
	var limit unix.Rlimit
	err := unix.Prlimit(int(r.pid), unix.RLIMIT_LOCKS, nil, &limit)
	if err == nil && r.valid() {
		limit.Cur = uint64(n) //nolint:gosec // not negative
		err = unix.Prlimit(int(r.pid), unix.RLIMIT_LOCKS, &limit, nil)
	}
	if err != nil {
		return answer{errno: unix.EAGAIN}
	}
	return done()
}

// The rules are those of the kernel, setuid(2) and the pages beside it; CAP_SETUID and CAP_SETGID are what the effective user 0
// has.

func (w *Identity) privileged() bool { return w.User.Effective == 0 || w.kept }

func (i *IDs) anyRoot() bool { return i.Real == 0 || i.Effective == 0 || i.Saved == 0 }

// set sets ids as setuid does.
func (i *IDs) set(id uint32, privileged bool) bool {
	switch {
	case id == unchanged:
		return false
	case privileged:
		*i = All(id)
	case id == i.Real || id == i.Saved:
		i.Effective, i.Files = id, id
	default:
		return false
	}
	return true
}

// setTwo sets ids as setreuid does.
func (i *IDs) setTwo(real, effective uint32, privileged bool) bool {
	next := *i
	if real != unchanged {
		if !privileged && real != i.Real && real != i.Effective {
			return false
		}
		next.Real = real
	}
	if effective != unchanged {
		if !privileged && effective != i.Real && effective != i.Effective && effective != i.Saved {
			return false
		}
		next.Effective = effective
	}
	if real != unchanged || effective != unchanged && effective != i.Real {
		next.Saved = next.Effective
	}
	next.Files = next.Effective
	*i = next
	return true
}

// setThree sets ids as setresuid does.
func (i *IDs) setThree(real, effective, saved uint32, privileged bool) bool {
	next := *i
	for _, c := range []struct {
		id   uint32
		into *uint32
	}{{real, &next.Real}, {effective, &next.Effective}, {saved, &next.Saved}} {
		if c.id == unchanged {
			continue
		}
		if !privileged && c.id != i.Real && c.id != i.Effective && c.id != i.Saved {
			return false
		}
		*c.into = c.id
	}
	next.Files = next.Effective
	*i = next
	return true
}

// change makes the caller whom f makes of it, unless that returns false.
func (r *request) change(invalid bool, f func(*Identity) bool) answer {
	if invalid {
		return answer{errno: unix.EINVAL}
	}
	who := r.who()
	wasRoot := who.User.anyRoot()
	if !f(&who) {
		return answer{errno: unix.EPERM}
	}
	if wasRoot && !who.User.anyRoot() {
		who.kept = who.keeps
	}
	return r.become(who)
}

func (r *request) setuid() answer {
	return r.change(r.id(0) == unchanged, func(w *Identity) bool { return w.User.set(r.id(0), w.privileged()) })
}

func (r *request) setgid() answer {
	return r.change(r.id(0) == unchanged, func(w *Identity) bool { return w.Group.set(r.id(0), w.privileged()) })
}

func (r *request) setreuid() answer {
	return r.change(false, func(w *Identity) bool { return w.User.setTwo(r.id(0), r.id(1), w.privileged()) })
}

func (r *request) setregid() answer {
	return r.change(false, func(w *Identity) bool { return w.Group.setTwo(r.id(0), r.id(1), w.privileged()) })
}

func (r *request) setresuid() answer {
	return r.change(false, func(w *Identity) bool { return w.User.setThree(r.id(0), r.id(1), r.id(2), w.privileged()) })
}

func (r *request) setresgid() answer {
	return r.change(false, func(w *Identity) bool { return w.Group.setThree(r.id(0), r.id(1), r.id(2), w.privileged()) })
}

func (r *request) setfsuid() answer { return r.setFiles(func(w *Identity) *IDs { return &w.User }) }

func (r *request) setfsgid() answer { return r.setFiles(func(w *Identity) *IDs { return &w.Group }) }

// setFiles returns the id before; there are no errors.
func (r *request) setFiles(of func(*Identity) *IDs) answer {
	who, id := r.who(), r.id(0)
	ids := of(&who)
	before := ids.Files
	if id != unchanged && (who.privileged() || id == ids.Real || id == ids.Effective || id == ids.Saved) && id != before {
		ids.Files = id
		r.become(who)
	}
	return value(before)
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 1 << 16

func (r *request) setgroups() answer {
	who, n := r.who(), int(r.int(0))
	switch {
	case !who.privileged():
		return answer{errno: unix.EPERM}
	case n < 0 || n > maxGroups:
		return answer{errno: unix.EINVAL}
	}
	who.Groups = make([]uint32, n)
	if n > 0 {
		data := make([]byte, 4*n)
		if err := r.read(r.arg(1), data); err != nil {
			return answer{errno: unix.EFAULT}
		}
		for i := range who.Groups {
			who.Groups[i] = binary.NativeEndian.Uint32(data[4*i:])
		}
	}
	slices.Sort(who.Groups) // as the kernel does
	return r.become(who)
}

func (r *request) getgroups() answer {
	groups, room := r.who().Groups, int(r.int(0))
	switch {
	case room < 0 || room > 0 && room < len(groups):
		return answer{errno: unix.EINVAL}
	case room > 0 && len(groups) > 0:
		data := make([]byte, 0, 4*len(groups))
		for _, g := range groups {
			data = binary.NativeEndian.AppendUint32(data, g)
		}
		if err := r.write(r.arg(1), data); err != nil {
			return answer{errno: unix.EFAULT}
		}
	}
	return answer{value: int64(len(groups))}
}

// writeIDs answers getresuid and getresgid.
func (r *request) writeIDs(ids IDs) answer {
	for i, id := range []uint32{ids.Real, ids.Effective, ids.Saved} {
		if err := r.write(r.arg(i), binary.NativeEndian.AppendUint32(nil, id)); err != nil {
			return answer{errno: unix.EFAULT}
		}
	}
	return done()
}
