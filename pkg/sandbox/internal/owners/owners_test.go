package owners_test

import (
	"archive/tar"
	"context"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/owners"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// TestLinksHaveOneOwner gives owners to two names of a file, of which the layers below knew different ones.
func TestLinksHaveOneOwner(t *testing.T) {
	changes := func(yield func(snapshot.Change, error) bool) {
		for _, h := range []*tar.Header{
			{Name: "a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{diff.Existed: "1"}},
			{Name: "b", Typeflag: tar.TypeLink, Linkname: "a", PAXRecords: map[string]string{diff.Existed: "1"}},
			{Name: "c", Typeflag: tar.TypeLink, Linkname: "a"},
			{Name: "d", Typeflag: tar.TypeReg},
		} {
			if !yield(snapshot.Change{Header: h}, nil) {
				return
			}
		}
	}
	below := func(context.Context) (map[string]owners.File, error) {
		return map[string]owners.File{"a": {Owner: owners.Owner{UID: 1000, GID: 50}}, "b": {}, "d": {Owner: owners.Owner{UID: 7}}}, nil
	}
	stream, given := owners.Give(t.Context(), changes, []owners.Layer{below})
	for c, err := range stream {
		if err != nil {
			t.Fatal(err)
		}
		want := owners.Owner{UID: 1000, GID: 50}
		if c.Header.Name == "d" {
			want = owners.Owner{}
		}
		if got := (owners.Owner{UID: c.Header.Uid, GID: c.Header.Gid}); got != want {
			t.Errorf("%s: %v, want %v", c.Header.Name, got, want)
		}
		if c.Header.PAXRecords[diff.Existed] != "" {
			t.Errorf("%s keeps the mark", c.Header.Name)
		}
	}
	known, err := given(t.Context())
	if err != nil || known["b"].Owner != (owners.Owner{UID: 1000, GID: 50}) {
		t.Errorf("known %v, %v", known, err)
	}
}
