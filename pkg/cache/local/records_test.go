package local_test

import (
	"errors"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Record(t.Context(), "a/../b"); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("error is %v, want a miss", err)
	}
	for _, data := range []string{"one", "two"} {
		if err := s.PutRecord(t.Context(), "a/../b", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := open(t, dir).Record(t.Context(), "a/../b"); err != nil || string(data) != "two" {
		t.Errorf("record is %q, %v", data, err)
	}
}
