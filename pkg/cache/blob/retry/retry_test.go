package retry_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache/blob/retry"
)

var errBusy = errors.New("busy") //nolint:gochecknoglobals // a constant

func again(after time.Duration) func(error) (time.Duration, bool) {
	return func(err error) (time.Duration, bool) { return after, errors.Is(err, errBusy) }
}

func TestDo(t *testing.T) {
	for name, tc := range map[string]struct {
		errs  []error
		after time.Duration
		calls int
		err   error
		waits time.Duration // at least
	}{
		"good":            {calls: 1},
		"busy-twice":      {errs: []error{errBusy, errBusy}, calls: 3, waits: 1500 * time.Millisecond},
		"always-busy":     {errs: []error{errBusy, errBusy, errBusy, errBusy, errBusy, errBusy}, calls: 5, err: errBusy},
		"refused":         {errs: []error{io.ErrClosedPipe}, calls: 1, err: io.ErrClosedPipe},
		"asks-for-time":   {errs: []error{errBusy}, after: 7 * time.Second, calls: 2, waits: 7 * time.Second},
		"broken-source":   {errs: []error{&retry.SourceError{Err: errBusy}}, calls: 1, err: errBusy},
		"asks-for-a-year": {errs: []error{errBusy}, after: 365 * 24 * time.Hour, calls: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, begin := 0, time.Now()
				err := retry.Do(t.Context(), func() error {
					calls++
					if calls <= len(tc.errs) {
						return tc.errs[calls-1]
					}
					return nil
				}, again(tc.after))
				waited := time.Since(begin) // on the test's own clock
				if !errors.Is(err, tc.err) || calls != tc.calls || waited < tc.waits || waited > time.Minute {
					t.Errorf("%d calls in %v, %v", calls, waited, err)
				}
			})
		})
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		interrupt := errors.New("interrupt")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(100*time.Millisecond, func() { cancel(interrupt) })
		if err := retry.Do(ctx, func() error { return errBusy }, again(0)); !errors.Is(err, interrupt) {
			t.Errorf("error %v, want the cause", err)
		}
	})
}

func TestSourceKeepsItsErrorsApart(t *testing.T) {
	connection, disk := errors.New("connection"), errors.New("disk")
	good := &retry.Source{ReadCloser: io.NopCloser(strings.NewReader("x"))}
	bad := &retry.Source{ReadCloser: io.NopCloser(iotest.ErrReader(disk))}
	_, _ = io.ReadAll(good)
	_, _ = io.ReadAll(bad)
	var source *retry.SourceError
	if err := good.Blame(connection); !errors.Is(err, connection) || errors.As(err, &source) {
		t.Errorf("a source that was read well: %v", err)
	}
	if err := bad.Blame(connection); !errors.Is(err, disk) || !errors.As(err, &source) {
		t.Errorf("a source that broke: %v", err)
	}
	if err := bad.Blame(nil); err != nil {
		t.Errorf("a request that went well: %v", err)
	}
}
