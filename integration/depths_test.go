package integration

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// marker is the name of a file that a base has and nothing else.
const marker = "file-of-the-base"

// depths is a base of two layers in a registry that counts requests.
type depths struct {
	*site
	proxy  *registrytest.Proxy
	base   string
	layers []v1.Hash
}

func newDepths(t *testing.T, dockerfile string) *depths {
	t.Helper()
	d := &depths{proxy: registrytest.Before(t, registry(t).Addr)}
	name := "/tests/" + path(t.Name()) + "/base:1"
	busy := pull(t.Context(), t, busybox(t))
	large := layerOf(t, map[string]string{"opt/" + marker: noise(t.Name(), 8<<20), "opt/folder/small": "small"})
	layers, err := busy.Layers()
	if err != nil {
		t.Fatal(err)
	}
	img, err := parts.Image(layers[0], large)
	if err != nil {
		t.Fatal(err)
	}
	if err := parts.Push(t.Context(), registry(t).Addr+name, img); err != nil {
		t.Fatal(err)
	}
	for _, l := range []v1.Layer{layers[0], large} {
		h, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		d.layers = append(d.layers, h)
	}
	d.base = d.proxy.Host + name
	d.site = newSite(t, map[string]string{"Dockerfile": "FROM " + d.base + "\n" + dockerfile, "app": "one"})
	return d
}

// layerOf makes a layer of files that root owns.
func layerOf(t *testing.T, files map[string]string) v1.Layer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "layer.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for name, data := range files {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	l, err := parts.Layer(file)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// destination is a repository in the same registry that has nothing yet.
func (d *depths) destination(name string) string {
	return d.proxy.Host + "/tests/" + path(d.t.Name()) + "/" + name + ":1"
}

// downloads returns how often a layer of the base was asked for, any part of it.
func (d *depths) downloads() int {
	n := 0
	for _, h := range d.layers {
		n += d.proxy.Count(http.MethodGet, "/blobs/"+h.String())
	}
	return n
}

// mounted checks that the layers of the base came into a repository without being sent.
func (d *depths) mounted(name string) {
	d.t.Helper()
	for _, h := range d.layers {
		ok := slices.ContainsFunc(d.proxy.Seen(http.MethodPost, "/"+name+"/blobs/uploads/"), func(r registrytest.Request) bool {
			return r.Query.Get("mount") == h.String() && strings.HasSuffix(r.Query.Get("from"), "/base")
		})
		if !ok {
			d.t.Errorf("layer %s was not mounted", h)
		}
		for _, r := range d.proxy.Seen(http.MethodPut, "/"+name+"/blobs/uploads/") {
			if r.Query.Get("digest") == h.String() {
				d.t.Errorf("layer %s was uploaded", h)
			}
		}
	}
}

// notExtracted checks that the base's files are nowhere on the disk.
func (d *depths) notExtracted() {
	d.t.Helper()
	for _, p := range below(d.t, d.work) {
		if filepath.Base(p) == marker || filepath.Base(p) == "busybox" {
			d.t.Errorf("extracted: %s", p)
		}
	}
}

// forgetBlobs removes all layers from the work directory, so that whoever needs one has to ask the registry.
func (d *depths) forgetBlobs() {
	d.t.Helper()
	if err := os.RemoveAll(filepath.Join(d.work, "blobs")); err != nil {
		d.t.Fatal(err)
	}
}

// forgetBase removes the layers of the base alone.
func (d *depths) forgetBase() {
	d.t.Helper()
	for _, h := range d.layers {
		if err := os.Remove(filepath.Join(d.work, "blobs", h.Algorithm+"-"+h.Hex)); err != nil {
			d.t.Fatal(err)
		}
	}
}

// TestCopyNeedsTheIndexAlone holds the middle depth: steps that copy read the names in a base's layers once, and
// never its files. (An owner by name needs the contents of one layer, the one with /etc/passwd.)
func TestCopyNeedsTheIndexAlone(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "WORKDIR /srv/app\nCOPY app .\nADD app /opt/folder/added\nCOPY --chown=1000:50 app /home/app/\n")
	d.mustBuild("--destination", d.destination("first"))
	if n := d.downloads(); n < len(d.layers) {
		t.Fatalf("%d requests for %d layers: the test does not see them\n%s", n, len(d.layers), d.proxy.Log())
	}
	d.notExtracted()

	d.forgetBlobs()
	d.proxy.Reset()
	d.lay(map[string]string{"app": "two"})
	d.mustBuild("--destination", d.destination("second"))
	if n := d.downloads(); n != 0 {
		t.Errorf("%d requests for layers whose index is known\n%s", n, d.proxy.Log())
	}
	d.mounted("second")
	d.notExtracted()

	got := files(t, pull(t.Context(), t, d.destination("second")))
	for _, name := range []string{"srv/app/app", "opt/folder/added", "home/app/app"} {
		if got[name] != "two" {
			t.Errorf("%s: %q", name, got[name])
		}
	}
	if got["opt/folder/small"] != "small" || got["opt/"+marker] == "" {
		t.Error("files of the base are missing")
	}
}

// TestCachedStepsReadNothing holds that steps found in the cache need no layer of their base, whatever their kind.
func TestCachedStepsReadNothing(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "COPY app /app\nRUN cp /app /copy\nCOPY app /last\n")
	d.mustBuild("--destination", d.destination("first"))
	want := pull(t.Context(), t, d.destination("first"))

	d.forgetBase()
	if err := os.RemoveAll(filepath.Join(d.work, "layers")); err != nil {
		t.Fatal(err)
	}
	d.proxy.Reset()
	out := d.mustBuild("--destination", d.destination("second"))
	if n := strings.Count(out, "CACHED"); n != 3 {
		t.Errorf("%d of 3 steps are cached:\n%s", n, out)
	}
	if n := d.downloads(); n != 0 {
		t.Errorf("%d requests for layers\n%s", n, d.proxy.Log())
	}
	d.mounted("second")
	d.notExtracted()
	got := pull(t.Context(), t, d.destination("second"))
	if a, b := layerDigests(t, want), layerDigests(t, got); !slices.Equal(a, b) {
		t.Errorf("layers %v, want %v", b, a)
	}
}

// TestMetadataNeedsNothing holds the least depth: what changes the config alone never reads a layer, not even the
// first time.
func TestMetadataNeedsNothing(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "ENV A=1\nLABEL b=2\nUSER app\nEXPOSE 80\nVOLUME /data\nENTRYPOINT [\"sh\"]\nCMD [\"-c\", \"true\"]\n")
	d.mustBuild("--destination", d.destination("first"))
	if n := d.downloads(); n != 0 {
		t.Errorf("%d requests for layers\n%s", n, d.proxy.Log())
	}
	d.mounted("first")
	d.notExtracted()
	c, err := pull(t.Context(), t, d.destination("first")).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Config.Labels["b"] != "2" || len(c.RootFS.DiffIDs) != len(d.layers) {
		t.Errorf("config %+v, layers %v", c.Config, c.RootFS.DiffIDs)
	}
}

// TestStageThatNobodyReadsStaysUnread holds that the layers of a stage's base are not fetched for steps whose result
// is in the cache.
func TestStageThatNobodyReadsStaysUnread(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "RUN cp /opt/folder/small /made\n\nFROM scratch\nCOPY --from=0 /made /\nLABEL a=1\n")
	d.mustBuild("--destination", d.destination("first"))
	d.forgetBase()
	if err := os.RemoveAll(filepath.Join(d.work, "layers")); err != nil {
		t.Fatal(err)
	}
	d.proxy.Reset()
	d.lay(map[string]string{"Dockerfile": "FROM " + d.base +
		"\nRUN cp /opt/folder/small /made\n\nFROM scratch\nCOPY --from=0 /made /\nLABEL a=2\nCOPY app /\n"})
	d.mustBuild("--destination", d.destination("second"))
	if n := d.downloads(); n != 0 {
		t.Errorf("%d requests for layers\n%s", n, d.proxy.Log())
	}
	d.notExtracted()
	got := files(t, pull(t.Context(), t, d.destination("second")))
	if got["made"] != "small" || got["app"] != "one" {
		t.Errorf("files %v", got)
	}
}

func layerDigests(t *testing.T, img v1.Image) []v1.Hash {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var list []v1.Hash
	for _, l := range m.Layers {
		list = append(list, l.Digest)
	}
	return list
}

// readTar returns the contents of regular files by path, those of more than a kilobyte as their digest.
func readTar(r io.Reader) (map[string]string, error) {
	m := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := strings.TrimPrefix(strings.TrimPrefix(h.Name, "./"), "/")
		if h.Size <= 1<<10 {
			data, err := io.ReadAll(tr)
			if err != nil {
				return nil, err
			}
			m[name] = string(data)
			continue
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, tr); err != nil {
			return nil, err
		}
		m[name] = fmt.Sprintf("%x", sum.Sum(nil))
	}
}
