package cdi_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/cdi"
)

const description = `cdiVersion: "0.6.0"
kind: vendor.example/null
annotations:
  org.mobyproject.buildkit.device.class: nulls
containerEdits:
  env: [ALL=1]
devices:
- name: one
  containerEdits:
    env: [ONE=1]
    deviceNodes:
    - path: /dev/null
- name: two
  containerEdits:
    deviceNodes:
    - path: /dev/zero
    mounts:
    - hostPath: /usr/lib/x
      containerPath: /lib/x
      options: [ro, bind]
`

func TestFind(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vendor.yaml"), []byte(description), 0o600); err != nil {
		t.Fatal(err)
	}
	one := cdi.Device{Nodes: []string{"/dev/null"}, Env: []string{"ALL=1", "ONE=1"}}
	for name, want := range map[string]cdi.Device{
		"vendor.example/null=one": one,
		"vendor.example/null":     one,
		"vendor.example/null=two": {
			Nodes: []string{"/dev/zero"}, Env: []string{"ALL=1"},
			Mounts: []cdi.Mount{{Source: "/usr/lib/x", Target: "/lib/x", ReadOnly: true}},
		},
	} {
		got, err := cdi.Find([]string{"/nowhere", dir}, name)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	for _, name := range []string{"vendor.example/null=*", "nulls"} {
		got, err := cdi.Find([]string{dir}, name)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Nodes) != 2 {
			t.Errorf("%s has nodes %q, want two", name, got.Nodes)
		}
	}
}

func TestFindNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := cdi.Find([]string{dir}, "vendor.example/null=one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.yaml"), []byte("kind: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cdi.Find([]string{dir}, "x"); err == nil || !strings.Contains(err.Error(), "broken.yaml") {
		t.Errorf("error does not tell of the broken file: %v", err)
	}
}
