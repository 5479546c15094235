package solve

import (
	"archive/tar"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// setBase makes "base" an image with one file, /version.
func (w *world) setBase(version string) {
	w.t.Helper()
	changes := func(yield func(snapshot.Change, error) bool) {
		yield(snapshot.Change{
			Header: &tar.Header{Typeflag: tar.TypeReg, Name: "version", Mode: 0o644, Size: int64(len(version))},
			Open:   func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(version)), nil },
		}, nil)
	}
	blob, err := snapshot.Write(w.t.Context(), changes, snapshot.Options{Dir: w.t.TempDir()})
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, v1.Layer(blob))
	if err != nil {
		w.t.Fatal(err)
	}
	w.bases["docker.io/library/base:latest"] = img
}

func TestLinkedCopySurvivesAChangeOfTheBase(t *testing.T) {
	for _, copies := range []string{
		"COPY --link f /etc/f\n",
		"COPY --link --chmod=600 f /etc/f\n",
		"COPY --link --chmod=u=rwX,go= --chown=1:2 . /etc/\n",
		"COPY --link --parents --exclude=b* d /w/\n",
		"ADD --link f /etc/\n",
		"COPY --link <<f /etc/\ntext\nf\n",
		"COPY --link --from=made /out /etc/\n",
	} {
		w := newWorld(t, map[string]string{"f": "x", "d/bar": "y", "d/c": "z"})
		text := "FROM scratch AS made\nRUN put /out x\nFROM base\n" + copies
		w.setBase("1")
		first, _ := w.mustBuild(text)
		w.setBase("2")
		second, ran := w.mustBuild(text)
		ran = slices.DeleteFunc(ran, func(name string) bool { return strings.Contains(name, "FROM") })
		if len(ran) != 0 {
			t.Errorf("%s: ran %q, though nothing but the base is new", copies, ran)
		}
		a, b := digests(t, first), digests(t, second)
		if a[1] != b[1] || a[0] == b[0] {
			t.Errorf("%s: layers %v, then %v", copies, a, b)
		}
	}
}

// TestReaderOfALinkedCopySeesTheBase reads from a stage with a linked copy a file that the copy did not bring.
func TestReaderOfALinkedCopySeesTheBase(t *testing.T) {
	for name, read := range map[string]string{
		"copy":  "FROM scratch\nCOPY --from=0 /version /v\n",
		"link":  "FROM scratch\nCOPY --link --from=0 /version /v\n",
		"above": "WORKDIR /w\nRUN none\n\nFROM scratch\nCOPY --from=0 /version /v\n",
	} {
		w := newWorld(t, map[string]string{"f": "x"})
		text := "FROM base\nCOPY --link f /f\n" + read
		w.setBase("1")
		first, _ := w.mustBuild(text)
		w.setBase("2")
		second, _ := w.mustBuild(text)
		if digests(t, first)[0] == digests(t, second)[0] {
			t.Errorf("%s: the copy holds the file of the old base", name)
		}
	}
}

func TestLinkedCopyDoesNotWaitForTheStepBelow(t *testing.T) {
	w := newWorld(t, map[string]string{"f": "x"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// The process ends only when the copy's layer is there.
	w.driver.began = func(string) {
		for w.early.len() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	if _, _, err := w.build(ctx, "FROM scratch\nRUN none\nCOPY --link f /f\n"); err != nil {
		t.Error(err)
	}
}
