package push_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// TestEpochIsTheTimeOfFiles holds what BuildKit's exporters of files do: all get that time, older or not.
func TestEpochIsTheTimeOfFiles(t *testing.T) {
	a := push.Artifact{Image: image(t, everything()[:7]), Epoch: time.Unix(900_000_000, 0)}
	o := rootfs.Options{TempDir: t.TempDir()}
	dir := t.TempDir()
	if _, err := push.RootDir(dir, o).Export(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		files++
		fi, err := d.Info()
		if err == nil && !fi.ModTime().Equal(a.Epoch) {
			t.Errorf("%s bears %v", name, fi.ModTime().UTC())
		}
		return err
	})
	if err != nil || files != 7 {
		t.Errorf("%d files, %v", files, err)
	}
	var b bytes.Buffer
	if _, err := push.RootTarTo(&b, o).Export(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(a.Epoch) {
			t.Errorf("%s in the tar bears %v", h.Name, h.ModTime.UTC())
		}
	}
}

// TestEpochDatesTheIndex holds that an index says when it was made if that is fixed, and otherwise nothing that would make it
// another one each time.
func TestEpochDatesTheIndex(t *testing.T) {
	for want, epoch := range map[string]time.Time{"": {}, "2020-09-13T12:26:40Z": time.Unix(1_600_000_000, 0)} {
		dir := t.TempDir()
		if _, err := push.OCILayout(dir, "tag").Export(t.Context(), push.Artifact{Image: image(t, everything()), Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(raw, &index); err != nil {
			t.Fatal(err)
		}
		got := index.Manifests[0].Annotations
		if got["org.opencontainers.image.created"] != want || got["org.opencontainers.image.ref.name"] != "tag" {
			t.Errorf("annotations %v, want the time %q", got, want)
		}
	}
}
