package fileop_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobuild-dev/gobuild/internal/fileop"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// TestOwners holds trap 11.
func TestOwners(t *testing.T) {
	tree := specTree(t, "d 0755 1:2 d\nf 0644 3:4 d/f x\nl 0777 5:6 d/l f\nf 0644 3:4 g x")
	for _, keep := range []bool{false, true} {
		c := fileop.Copy{Sources: []fileop.Source{{Tree: tree, Path: ".", KeepOwner: keep}}, Dest: "/", Time: made()}
		want := map[bool]string{
			false: "d 0755 0:0 0 d\nf 0644 0:0 1 d/f\nl 0777 0:0 0 d/l -> f\nf 0644 0:0 1 g\n",
			true:  "d 0755 1:2 0 d\nf 0644 3:4 1 d/f\nl 0777 5:6 0 d/l -> f\nf 0644 3:4 1 g\n",
		}
		got, err := run(t, c, nil)
		must(t, err)
		if diff := cmp.Diff(want[keep], got); diff != "" {
			t.Errorf("keep %v:\n%s", keep, diff)
		}
	}
}

// TestUnknownOwner holds trap 14.
func TestUnknownOwner(t *testing.T) {
	tree := specTree(t, "f 0644 0:0 f x")
	linked := specTree(t, `
d 0755 0:0 etc
l 0777 0:0 etc/passwd ../../usr/passwd
d 0755 0:0 usr
f 0644 0:0 usr/passwd app:x:5:6::/:\n`)
	for _, tt := range []struct {
		chown string
		base  rootfs.Tree
		want  string
	}{
		{"nosuch", linked, `error: look up owner "nosuch": user "nosuch" is not in /etc/passwd of the image; use a numeric id`},
		{"app:nosuch", linked, `error: look up owner "app:nosuch": group "nosuch" is not in /etc/group of the image; use a numeric id`},
		{"app", nil, `error: look up owner "app": user "app" is not in /etc/passwd of the image; use a numeric id`},
		{"app", linked, "f 0644 5:6 1 f\n"},
		{"root:root", nil, "f 0644 0:0 1 f\n"},
		{"77:", nil, "f 0644 77:77 1 f\n"},
		{":78", nil, "f 0644 0:78 1 f\n"},
		{"4294967295", nil, `error: parse owner "4294967295": id 4294967295 is not between 0 and 2147483647`},
		{"1:-1", nil, `error: parse owner "1:-1": id -1 is not between 0 and 2147483647`},
	} {
		c := fileop.Copy{Sources: []fileop.Source{{Tree: tree, Path: "f"}}, Dest: "/", Chown: tt.chown}
		got, err := run(t, c, tt.base)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != tt.want {
			t.Errorf("--chown=%s:\n%s, want\n%s", tt.chown, got, tt.want)
		}
	}
}

// TestWorkDirOwner holds traps 12 and 44: every directory that is made belongs to USER, as far as base knows it.
func TestWorkDirOwner(t *testing.T) {
	base := specTree(t, "d 0755 0:0 etc\nf 0644 0:0 etc/passwd app:x:5:6::/:\\n\nf 0644 0:0 etc/group g:x:9:\\n\nd 0700 1:1 there")
	for user, want := range map[string]string{
		"":      "d 0755 0:0 0 a\nd 0755 0:0 0 a/b\n",
		"app":   "d 0755 5:6 0 a\nd 0755 5:6 0 a/b\n",
		"app:g": "d 0755 5:9 0 a\nd 0755 5:9 0 a/b\n",
		"7":     "d 0755 7:7 0 a\nd 0755 7:7 0 a/b\n",
		// Unlike in COPY, the name is not about this instruction; BuildKit takes root, and so do we.
		"nobody":    "d 0755 0:0 0 a\nd 0755 0:0 0 a/b\n",
		"app:nogrp": "d 0755 5:6 0 a\nd 0755 5:6 0 a/b\n",
		"8:nogrp":   "d 0755 8:8 0 a\nd 0755 8:8 0 a/b\n",
	} {
		got, err := list(t, fileop.WorkDir(t.Context(), base, "/a/b", user, made()))
		must(t, err)
		if got != want {
			t.Errorf("USER %q:\n%s", user, got)
		}
	}
	got, err := list(t, fileop.WorkDir(t.Context(), base, "/there/x/../y/", "app", made()))
	must(t, err)
	if want := "d 0700 1:1 0 there\nd 0755 5:6 0 there/y\n"; got != want {
		t.Errorf("existing parent:\n%s", got)
	}
	if got, err := list(t, fileop.WorkDir(t.Context(), nil, "/", "", made())); got != "" || err != nil {
		t.Errorf("root: %q, %v", got, err)
	}
}
