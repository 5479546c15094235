package build

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestNoteNameIsThatOfTheBuild holds which builds are the same on two machines.
func TestNoteNameIsThatOfTheBuild(t *testing.T) {
	in := func(context string) Options { return Options{Context: context} }
	file := func(context, dockerfile string) Options { return Options{Context: context, Dockerfile: dockerfile} }
	platform := func(arch string) Options {
		return Options{Context: "/a/app", Platform: v1.Platform{OS: "linux", Architecture: arch}}
	}
	for name, tt := range map[string]struct {
		a, b Options
		same bool
	}{
		"checkout-elsewhere":    {in("/builds/1/app"), in("/home/me/app/"), true},
		"dockerfile-inside":     {file("/a/app", "/a/app/x/Dockerfile"), file("/b/app", "x/Dockerfile"), true},
		"dockerfile-by-default": {in("/a/app"), file("/b/app", "./Dockerfile"), true},
		"commit-and-token": {
			in("https://token:one@host/app.git#main:dir"), in("https://host/app.git#0123:dir"), true,
		},
		"another-directory-of-a-repository": {in("https://host/app.git#main:a"), in("https://host/app.git#main:b"), false},
		"another-repository":                {in("https://host/app.git"), in("https://host/other.git"), false},
		"another-folder":                    {in("/a/app"), in("/a/other"), false},
		"another-sub-folder":                {Options{Context: "/a/app", ContextDir: "x"}, Options{Context: "/a/app", ContextDir: "y"}, false},
		"another-dockerfile":                {file("/a/app", "x"), file("/a/app", "y"), false},
		"another-target":                    {Options{Context: "/a/app", Target: "x"}, Options{Context: "/a/app", Target: "y"}, false},
		"another-platform":                  {platform("s390x"), platform("amd64"), false},
		"arguments-are-none-of-it":          {Options{Context: "/a/app", BuildArgs: map[string]string{"V": "1"}}, in("/a/app"), true},
	} {
		a, b := tt.a.noteName(), tt.b.noteName()
		if (a == b) != tt.same {
			t.Errorf("%s: %q and %q", name, a, b)
		}
		if strings.Contains(a, "token") {
			t.Errorf("%s: a secret in %q", name, a)
		}
	}
	t.Chdir(filepath.Join(t.TempDir()))
	if a, b := in(".").noteName(), in("").noteName(); a != b {
		t.Errorf("%q and %q", a, b)
	}
}

func TestInputsComeBack(t *testing.T) {
	want := map[string]json.RawMessage{"[build 1] linux/amd64": []byte(`{"inputs":[{"kind":"words","sum":"00ff"}]}`)}
	data, err := encodeInputs(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeInputs(data)
	if err != nil || !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return slices.Equal(a, b) }) {
		t.Errorf("%s, %v", got, err)
	}
	for i := range data {
		if _, err := decodeInputs(data[:i]); err == nil {
			t.Errorf("%d of %d bytes were read", i, len(data))
		}
	}
}
