package process

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/feign"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
)

// startStep starts the program as start does. Where there is but one id it is supervised, if it can be, so that it may use
// others. marked is to be called when no process is left.
func (s *Spec) startStep(who identity) (pid int, failed *Result, marked func() mark.Record, err error) {
	if !s.OneOwner {
		pid, failed, err = s.start(who, true)
		return pid, failed, func() mark.Record { return mark.Record{} }, err
	}
	var session *feign.Session
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is never unlocked, so that it ends here, and the filter on it with it: this process is not supervised.
		runtime.LockOSThread()
		var unavailable error
		if session, unavailable = feign.Start(who.feigned(), s.Special, s.Table); unavailable != nil && !errors.Is(unavailable, feign.ErrUnavailable) {
			err = unavailable
			return
		}
		if session == nil {
			pid, failed, err = s.start(who, true)
		} else {
			feign.Undisturbed(func() { pid, failed, err = s.start(who, false) })
		}
		if err != nil && unavailable != nil && errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w (%w)", err, unavailable)
		}
	}()
	<-done
	if session == nil {
		return pid, failed, func() mark.Record { return mark.Record{} }, err
	}
	return pid, failed, func() mark.Record { return mark.Record{Kept: true, Table: session.Marked()} }, err
}

// limits says what it means for steps that there is but one id.
func (s *Spec) limits() string {
	if !s.OneOwner {
		return ""
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good, as in startStep
		_, err := feign.Start(feign.Identity{}, nil, nil)
		result <- err
	}()
	const remedy = "give this user a range in /etc/subuid and /etc/subgid"
	if err := <-result; err != nil {
		return fmt.Sprintf("there is one user id, so that chown to others and USER fail (%v): %s", err, remedy)
	}
	return "there is one user id, so that other users are feigned, which slows steps down: " + remedy
}

// feigned is who the processes of the step take themselves for.
func (i identity) feigned() feign.Identity {
	out := feign.Identity{User: feign.All(uint32(i.uid)), Group: feign.All(uint32(i.gid))}
	for _, g := range i.groups {
		out.Groups = append(out.Groups, uint32(g))
	}
	slices.Sort(out.Groups) // as the kernel does
	return out
}
