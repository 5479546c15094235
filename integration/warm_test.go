package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWarmedBasesAreNotFetched holds that a base is fetched once, whatever it was named by: in the work directory, and in a
// layout on a volume that builds only read.
func TestWarmedBasesAreNotFetched(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "RUN test -s /opt/"+marker+"\n")
	warm := func(more ...string) string {
		t.Helper()
		out, err := d.start(append([]string{"warm", "--insecure-pull"}, more...)...).wait()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := warm("--context", d.context, "--work-dir", d.work)
	if !strings.HasPrefix(out, d.base+" sha256:") {
		t.Errorf("warm prints %q", out)
	}
	if n := d.downloads(); n != len(d.layers) {
		t.Errorf("warming fetched %d layers of %d", n, len(d.layers))
	}
	digest := strings.TrimSpace(strings.Fields(out)[1])
	byDigest := strings.TrimSuffix(d.base, ":1") + "@" + digest
	warm("--image", byDigest, "--work-dir", d.work)
	d.mustBuild("--no-push")
	if n := d.downloads(); n != len(d.layers) {
		t.Errorf("after warming %d layers were fetched", n-len(d.layers))
	}

	volume := filepath.Join(d.dir, "volume")
	warm("--image", d.base, "--cache-dir", volume, "--work-dir", filepath.Join(d.dir, "other-work"))
	d.emptyMachine()
	d.proxy.Reset()
	d.mustBuild("--no-push", "--cache-dir", volume)
	if n := d.downloads(); n != 0 {
		t.Errorf("%d layers were fetched despite the volume", n)
	}

	// A damaged volume is as good as none.
	for _, h := range d.layers {
		if err := os.Truncate(filepath.Join(volume, "blobs", h.Algorithm, h.Hex), 10); err != nil {
			t.Fatal(err)
		}
	}
	d.emptyMachine()
	d.mustBuild("--no-push", "--cache-dir", volume)
}
