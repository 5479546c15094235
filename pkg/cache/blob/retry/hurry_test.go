package retry_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/retry"
)

// TestHurriedCallIsMadeOnce holds that a server that has just failed is not waited for again.
func TestHurriedCallIsMadeOnce(t *testing.T) {
	n := 0
	err := retry.Do(cache.Hurried(t.Context()), func() error { n++; return errors.New("connection lost") },
		func(error) (time.Duration, bool) { return 0, true })
	if err == nil || n != 1 {
		t.Errorf("%d calls, %v", n, err)
	}
}
