package feign

import (
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestRulesAreTheKernels sets ids at random, on threads that are given up, and compares with what the kernel makes of it.
func TestRulesAreTheKernels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can try the kernel's rules")
	}
	for seed := range uint64(300) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // for good: its ids are not those of others
			tryRules(t, rand.New(rand.NewPCG(seed, 1)))
		}()
		<-done
	}
}

func tryRules(t *testing.T, r *rand.Rand) {
	who := Identity{User: All(0), Group: All(0)}
	id := func() uint32 { return []uint32{0, 1, 2, 3, unchanged}[r.IntN(5)] }
	for range 6 {
		a, b, c := id(), id(), id()
		var number uintptr
		var ok bool
		switch r.IntN(6) {
		case 0:
			number, ok = unix.SYS_SETUID, who.User.set(a, who.privileged())
		case 1:
			number, ok = unix.SYS_SETREUID, who.User.setTwo(a, b, who.privileged())
		case 2:
			number, ok = unix.SYS_SETRESUID, who.User.setThree(a, b, c, who.privileged())
		case 3:
			number, ok = unix.SYS_SETGID, who.Group.set(a, who.privileged())
		case 4:
			number, ok = unix.SYS_SETREGID, who.Group.setTwo(a, b, who.privileged())
		case 5:
			number, ok = unix.SYS_SETRESGID, who.Group.setThree(a, b, c, who.privileged())
		}
		_, _, errno := unix.RawSyscall(number, uintptr(a), uintptr(b), uintptr(c))
		if ok != (errno == 0) {
			t.Errorf("call %d of %d, %d, %d: kernel says %v, got %v", number, int32(a), int32(b), int32(c), errno, ok)
			return
		}
		if user, group := kernelIDs(unix.SYS_GETRESUID), kernelIDs(unix.SYS_GETRESGID); ok && (who.User != user || who.Group != group) {
			t.Errorf("call %d of %d, %d, %d: kernel has %v and %v, got %v", number, int32(a), int32(b), int32(c), user, group, who)
			return
		}
	}
}

func kernelIDs(number uintptr) IDs {
	var real, effective, saved uint32
	unix.RawSyscall(number, uintptr(unsafe.Pointer(&real)), uintptr(unsafe.Pointer(&effective)), uintptr(unsafe.Pointer(&saved)))
	return IDs{real, effective, saved, effective}
}
