package fileop_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLinkWithMode holds what BuildKit has no word for, since it does not link with a mode: nothing of the
// base shows, and the mode is that of what is copied, never that of a directory on the way, which may be the base's /etc.
func TestLinkWithMode(t *testing.T) {
	dir := t.TempDir()
	writeContext(t, dir)
	context := diskTree(t, dir)
	base := layers(t, instruction(t, "ADD base.tar /", context))
	for line, want := range map[string]string{
		"COPY --link --chmod=600 plain /bin/z":                 "d 0755 0:0 0 bin\nf 0600 0:0 1 bin/z\n",
		"COPY --link --chmod=u=rwX,go= plain /tmp/deep/z":      "d 0755 0:0 0 tmp\nd 0755 0:0 0 tmp/deep\nf 0600 0:0 1 tmp/deep/z\n",
		"COPY --link --chmod=0 --chown=3:4 plain /own/":        "d 0755 3:4 0 own\nf 0000 3:4 1 own/plain\n",
		"COPY --link --chmod=700 over /":                       "d 0700 0:0 0 own\nf 0700 0:0 15 own/sublink\n",
		"COPY --link --chmod=go-rwx --parents x/y/b.go /tmp/":  "d 0755 0:0 0 tmp\nd 0700 0:0 0 tmp/x\nd 0700 0:0 0 tmp/x/y\nf 0600 0:0 1 tmp/x/y/b.go\n",
		"ADD --link --chmod=600 gz.tgz /bin/":                  "d 0755 0:0 0 bin\nf 0644 0:0 1 bin/f1\n",
		"ADD --link --chmod=600 --unpack=false gz.tgz /bin/gz": "d 0755 0:0 0 bin\nf 0600 0:0 96 bin/gz\n",
	} {
		got, err := run(t, instruction(t, line, context), base)
		if err != nil {
			got = "error: " + err.Error() + "\n"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", line, diff)
		}
	}
}
