package integration

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// TestLinkedStepsSurviveANewBase holds what --link is for: when the base's tag names another image, linked steps
// are found in the cache, with or without a mode and an owner, and put on top of layers that nobody reads.
func TestLinkedStepsSurviveANewBase(t *testing.T) {
	t.Parallel()
	steps := []string{
		"COPY --link app /opt/folder/app",
		"COPY --link --chmod=755 --chown=1000:50 app /bin/app",
		"COPY --link --chmod=u=rwX,go=rX --parents app /srv/",
		"ADD --link --chmod=600 <<config /etc/\ntext\nconfig",
		"COPY --link --from=made /app /made",
	}
	dockerfile := strings.Join(steps, "\n") + "\n"
	d := newDepths(t, dockerfile)
	made := "FROM scratch AS made\nCOPY app /app\nFROM " + d.base + "\n"
	d.lay(map[string]string{"Dockerfile": made + dockerfile})
	d.mustBuild("--destination", d.destination("first"))
	before := layerDigests(t, pull(t.Context(), t, d.destination("first")))

	d.replaceBase("2")
	d.proxy.Reset()
	out := d.mustBuild("--destination", d.destination("second"))
	if n := strings.Count(out, "CACHED"); n != len(steps) {
		t.Errorf("%d of %d steps are cached:\n%s", n, len(steps), out)
	}
	if n := d.downloads(); n != 0 {
		t.Errorf("%d requests for layers of the new base\n%s", n, d.proxy.Log())
	}
	d.mounted("second")
	after := layerDigests(t, pull(t.Context(), t, d.destination("second")))
	for i := range steps {
		if a, b := before[len(before)-1-i], after[len(after)-1-i]; a != b {
			t.Errorf("the %d. layer from the top is %s, then %s", i+1, a, b)
		}
	}
	if before[0] == after[0] {
		t.Error("the base is the old one")
	}
}

// replaceBase lets the tag of the base name an image of one other layer.
func (d *depths) replaceBase(text string) {
	d.t.Helper()
	l := layerOf(d.t, map[string]string{"opt/" + marker: noise(d.t.Name()+text, 1<<20)})
	img, err := parts.Image(l)
	if err != nil {
		d.t.Fatal(err)
	}
	_, name, _ := strings.Cut(d.base, "/")
	if err := parts.Push(d.t.Context(), registry(d.t).Addr+"/"+name, img); err != nil {
		d.t.Fatal(err)
	}
	h, err := l.Digest()
	if err != nil {
		d.t.Fatal(err)
	}
	d.layers = []v1.Hash{h}
}
