package sandbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/unfit"
)

// probe is a driver of which only the probe matters.
type probe struct {
	sandbox.Driver
	name string
	err  error
}

func (p probe) Name() string { return p.name }

func (p probe) Probe(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.err
}

// eager is a driver that says whether it will likely work.
type eager struct {
	probe
	likely bool
}

func (e eager) Likely() bool { return e.likely }

// TestLikely holds that only the first driver that Select would try is opened before it has been tried.
func TestLikely(t *testing.T) {
	yes, no, silent := eager{probe{name: "yes"}, true}, eager{probe{name: "no"}, false}, probe{name: "silent"}
	for _, c := range []struct {
		drivers []sandbox.Driver
		want    string
		got     sandbox.Driver
	}{
		{[]sandbox.Driver{yes, no}, "auto", yes},
		{[]sandbox.Driver{no, yes}, "auto", nil},
		{[]sandbox.Driver{silent, yes}, "auto", nil},
		{[]sandbox.Driver{silent, yes}, "yes", yes},
		{[]sandbox.Driver{yes, silent}, "silent", nil},
		{[]sandbox.Driver{yes}, "other", nil},
	} {
		if got := sandbox.Likely(c.drivers, c.want); got != c.got {
			t.Errorf("%s: got %v, want %v", c.want, got, c.got)
		}
	}
}

func TestSelect(t *testing.T) {
	bad, worse := errors.New("no mounts: allow them"), errors.New("no namespaces")
	drivers := []sandbox.Driver{probe{name: "a", err: bad}, probe{name: "b"}, probe{name: "c"}, probe{name: "d", err: worse}}
	for _, c := range []struct{ want, got, err string }{
		{"auto", "b", ""},
		{"c", "c", ""},
		{"d", "", "d: no namespaces"},
		{"e", "", `unknown "e": want auto or a, b, c, d`},
	} {
		d, err := sandbox.Select(t.Context(), drivers, c.want)
		switch {
		case c.err == "" && (err != nil || d.Name() != c.got):
			t.Errorf("%s: got %v, %v, want %s", c.want, d, err, c.got)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v, want %q", c.want, err, c.err)
		}
	}
	_, err := sandbox.Select(t.Context(), []sandbox.Driver{drivers[0], drivers[3]}, "auto")
	if err == nil || !strings.Contains(err.Error(), "here: a: no mounts: allow them; d: no namespaces") {
		t.Errorf("none: %v", err)
	}
	first, second := &unfit.Error{Why: "no mounts", Remedy: "allow them"}, &unfit.Error{Why: "not root", Remedy: "be root"}
	_, err = sandbox.Select(t.Context(), []sandbox.Driver{
		probe{name: "a", err: first}, probe{name: "b", err: second}, probe{name: "c", err: first},
	}, "auto")
	want := "here: a, c: no mounts; b: not root\nany of these helps: allow them; be root; "
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("typed: %v, want %q", err, want)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(bad)
	if _, err := sandbox.Select(ctx, drivers, "b"); !errors.Is(err, bad) {
		t.Errorf("cancelled: %v", err)
	}
}
