package push_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/push/pushtest"
)

// skopeo runs skopeo and returns its output.
func skopeo(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("skopeo", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// TestSkopeoReadsBack: another program reads what was written and finds the same image.
func TestSkopeoReadsBack(t *testing.T) {
	dir := t.TempDir()
	img := pushtest.Image(t, "one")
	want, _ := img.Digest()
	archive, err := push.DockerArchive(filepath.Join(dir, "docker.tar"), []string{"reg.example/team/x:1", "debian"})
	if err != nil {
		t.Fatal(err)
	}
	oci, err := push.OCIArchive(filepath.Join(dir, "oci.tar"), []string{"reg.example/team/x:1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []push.Exporter{archive, oci, push.OCILayout(filepath.Join(dir, "layout"), "v1")} {
		if _, err := e.Export(t.Context(), push.Artifact{Image: img, Platform: pushtest.Platform}); err != nil {
			t.Fatal(err)
		}
	}
	for src, same := range map[string]bool{
		"oci:" + dir + "/layout:v1":                                  true,
		"oci-archive:" + dir + "/oci.tar:1":                          true,
		"oci-archive:" + dir + "/docker.tar:latest":                  true,
		"docker-archive:" + dir + "/docker.tar:debian:latest":        false, // it makes a manifest of its own
		"docker-archive:" + dir + "/docker.tar:reg.example/team/x:1": false,
	} {
		var got struct {
			Digest string
			Layers []string
		}
		if err := json.Unmarshal(skopeo(t, "inspect", src), &got); err != nil {
			t.Fatal(err)
		}
		if same && got.Digest != want.String() {
			t.Errorf("%s has digest %s, want %s", src, got.Digest, want)
		}
		if len(got.Layers) != 3 {
			t.Errorf("%s has layers %v", src, got.Layers)
		}
		skopeo(t, "--insecure-policy", "copy", src, "dir:"+filepath.Join(t.TempDir(), "copy"))
	}
}

// TestLayoutKeepsOtherTags: two processes' worth of exporters write different tags, and none is lost.
func TestLayoutKeepsOtherTags(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	// Many that have nothing to write but the index, to meet there.
	img := pushtest.Image(t, "the same")
	for i := range 60 {
		wg.Go(func() {
			if _, err := push.OCILayout(dir, fmt.Sprint(i)).Export(t.Context(), push.Artifact{Image: img}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 60 {
		if _, err := push.OpenOCILayout(fmt.Sprintf("%s:%d", dir, i), pushtest.Platform); err != nil {
			t.Fatal(err)
		}
	}
	tags := []string{"a", "b", "c", "d", "e", "f", ""}
	for _, tag := range tags {
		wg.Go(func() {
			if _, err := push.OCILayout(dir, tag).Export(t.Context(), push.Artifact{Image: pushtest.Image(t, "image "+tag)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, tag := range tags[:6] {
		img, err := push.OpenOCILayout(dir+":"+tag, pushtest.Platform)
		if err != nil {
			t.Fatal(err)
		}
		if id := pushtest.ID(t, img); id != "image "+tag {
			t.Errorf("tag %q is %q", tag, id)
		}
		h, _ := img.Digest()
		if _, err := push.OpenOCILayout(dir+"@"+h.String(), pushtest.Platform); err != nil {
			t.Error(err)
		}
	}
	_, err := push.OpenOCILayout(dir+":z", pushtest.Platform)
	if err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("the error does not list the tags: %v", err)
	}
	if _, err := push.OpenOCILayout(filepath.Join(dir, "none"), pushtest.Platform); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestLayoutLayersKnowTheirDiffID: without reading the layers, which here is impossible.
func TestLayoutLayersKnowTheirDiffID(t *testing.T) {
	dir := t.TempDir()
	img := pushtest.Image(t, "one")
	if _, err := push.OCILayout(dir, "").Export(t.Context(), push.Artifact{Image: img}); err != nil {
		t.Fatal(err)
	}
	got, err := push.OpenOCILayout(dir, pushtest.Platform)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := img.Layers()
	for i, l := range layers {
		h, _ := l.Digest()
		_ = os.Remove(filepath.Join(dir, "blobs", "sha256", h.Hex))
		id, err := l.DiffID()
		if w, _ := want[i].DiffID(); err != nil || id != w {
			t.Errorf("diff ID %v, %v; want %v", id, err, w)
		}
	}
}

// TestArchivesHaveEachBlobOnce: an image may have the same layer twice.
func TestArchivesHaveEachBlobOnce(t *testing.T) {
	var b bytes.Buffer
	e, err := push.DockerArchiveTo(&b, []string{"reg.example/x@sha256:" + strings.Repeat("0", 64), "y:2@sha256:" + strings.Repeat("0", 64), "x:1", "docker.io/library/x:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Export(t.Context(), push.Artifact{Image: pushtest.Image(t, "one")}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var manifest []struct{ RepoTags, Layers []string }
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if seen[h.Name] {
			t.Errorf("%s is there twice", h.Name)
		}
		seen[h.Name] = true
		if h.Name == "manifest.json" {
			if err := json.NewDecoder(tr).Decode(&manifest); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(manifest) != 1 || len(manifest[0].Layers) != 3 {
		t.Fatalf("manifest.json is %+v", manifest)
	}
	// A digest is no tag, and two names of the same are one.
	if got := strings.Join(manifest[0].RepoTags, " "); got != "x:1" {
		t.Errorf("tags %q", got)
	}
}

func TestFullDiskLeavesNothing(t *testing.T) {
	// A write to /dev/full fails as one to a full disk.
	e, err := push.DockerArchive("/dev/full", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Export(t.Context(), push.Artifact{Image: pushtest.Image(t, "one")}); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("got %v", err)
	}
	if fi, err := os.Stat("/dev/full"); err != nil || fi.Mode().IsRegular() {
		t.Fatal("/dev/full was replaced")
	}
}

func TestArchivesGoThroughPipesAndLinks(t *testing.T) {
	dir := t.TempDir()
	img := pushtest.Image(t, "one")
	target := filepath.Join(dir, "real.tar")
	link := filepath.Join(dir, "link.tar")
	if err := errors.Join(os.WriteFile(target, nil, 0o600), os.Symlink("real.tar", link)); err != nil {
		t.Fatal(err)
	}
	e, _ := push.DockerArchive(link, nil)
	if _, err := e.Export(t.Context(), push.Artifact{Image: img}); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	want, err := os.ReadFile(target)
	if err != nil || len(want) == 0 {
		t.Fatal(len(want), err)
	}
	var b bytes.Buffer
	to, _ := push.DockerArchiveTo(&b, nil)
	if _, err := to.Export(t.Context(), push.Artifact{Image: img}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Error("the same image makes different archives")
	}
}
