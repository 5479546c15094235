package push_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/push/pushtest"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

func newClient(t testing.TB) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Options{RetryDelay: time.Millisecond, Retries: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// found reads an image back as the suite wants it.
func found(t *testing.T, img v1.Image, err error) (pushtest.Found, error) {
	t.Helper()
	if err != nil {
		return pushtest.Found{}, err
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	h, err := img.Digest()
	return pushtest.Found{Digest: h, ID: pushtest.ID(t, img)}, err
}

func TestRegistryExporter(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	pushtest.Run(t, func(t *testing.T) pushtest.Target {
		repo := host + "/" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
		return pushtest.Target{
			New: func(t *testing.T) push.Exporter {
				e, err := push.Registry(newClient(t), []string{repo + "/a:1", repo + "/b:1", repo + "/a:1"})
				if err != nil {
					t.Fatal(err)
				}
				return e
			},
			Read: func(t *testing.T) (pushtest.Found, error) {
				c := newClient(t)
				img, err := c.Image(t.Context(), repo+"/a:1", pushtest.Platform)
				if err == nil {
					img, err = c.Image(t.Context(), repo+"/b:1", pushtest.Platform)
				}
				return found(t, img, err)
			},
		}
	})
}

func TestOCILayoutExporter(t *testing.T) {
	for _, tag := range []string{"", "v1"} {
		t.Run("tag "+tag, func(t *testing.T) {
			pushtest.Run(t, func(t *testing.T) pushtest.Target {
				dir := filepath.Join(t.TempDir(), "deep", "layout")
				return pushtest.Target{
					New: func(*testing.T) push.Exporter { return push.OCILayout(dir, tag) },
					Read: func(t *testing.T) (pushtest.Found, error) {
						img, err := push.OpenOCILayout(dir, pushtest.Platform)
						noTemps(t, dir)
						return found(t, img, err)
					},
				}
			})
		})
	}
}

// noTemps fails when a file was left that nobody asked for.
func noTemps(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir && strings.HasPrefix(d.Name(), ".") {
			t.Errorf("%s was left", path)
		}
		return nil
	})
}

func TestDockerArchiveExporter(t *testing.T) {
	pushtest.Run(t, func(t *testing.T) pushtest.Target {
		dir := t.TempDir()
		path := filepath.Join(dir, "image.tar")
		return pushtest.Target{
			New: func(t *testing.T) push.Exporter {
				e, err := push.DockerArchive(path, []string{"reg.example/x:1", "y"})
				if err != nil {
					t.Fatal(err)
				}
				return e
			},
			Read: func(t *testing.T) (pushtest.Found, error) {
				noTemps(t, dir)
				if _, err := os.Stat(path); err != nil {
					return pushtest.Found{}, err
				}
				tag, _ := name.NewTag("y:latest")
				img, err := tarball.ImageFromPath(path, &tag)
				if err != nil {
					return pushtest.Found{}, err
				}
				// The manifest that go-containerregistry makes of it is its own.
				return pushtest.Found{ID: pushtest.ID(t, img)}, nil
			},
		}
	})
}

func TestRootTarExporter(t *testing.T) {
	pushtest.Run(t, func(t *testing.T) pushtest.Target {
		path := filepath.Join(t.TempDir(), "root.tar")
		return pushtest.Target{
			New: func(*testing.T) push.Exporter { return push.RootTar(path, rootfs.Options{TempDir: t.TempDir()}) },
			Read: func(t *testing.T) (pushtest.Found, error) {
				f, err := os.Open(path)
				if err != nil {
					return pushtest.Found{}, err
				}
				defer f.Close()
				return pushtest.Found{ID: pushtest.IDInTar(t, f)}, nil
			},
		}
	})
}

func TestRootDirExporter(t *testing.T) {
	pushtest.Run(t, func(t *testing.T) pushtest.Target {
		dir := filepath.Join(t.TempDir(), "root")
		return pushtest.Target{
			Partial: true,
			New:     func(*testing.T) push.Exporter { return push.RootDir(dir, rootfs.Options{TempDir: t.TempDir()}) },
			Read: func(t *testing.T) (pushtest.Found, error) {
				noTemps(t, dir)
				b, err := os.ReadFile(filepath.Join(dir, pushtest.IDFile))
				return pushtest.Found{ID: string(b)}, err
			},
		}
	})
}

// TestOneDestinationFailsOthersFinish: the error names each that failed, the receipts those that did not.
func TestOneDestinationFailsOthersFinish(t *testing.T) {
	good := registrytest.Start(t, registrytest.Config{}).Host
	locked := registrytest.Start(t, registrytest.Config{Htpasswd: registrytest.Alice}).Host
	refs := []string{locked + "/x:1", good + "/x:1", "127.0.0.1:1/x:1"}
	e, err := push.Registry(newClient(t), refs)
	if err != nil {
		t.Fatal(err)
	}
	img := pushtest.Image(t, "one")
	receipts, err := e.Export(t.Context(), push.Artifact{Image: img})
	if err == nil || !strings.Contains(err.Error(), refs[0]) || !strings.Contains(err.Error(), refs[2]) || strings.Contains(err.Error(), refs[1]) {
		t.Errorf("got %v", err)
	}
	if len(receipts) != 1 || receipts[0].Name != refs[1] {
		t.Errorf("receipts: %v", receipts)
	}
	if _, err := newClient(t).Image(t.Context(), refs[1], pushtest.Platform); err != nil {
		t.Error(err)
	}
	if _, err := push.Registry(newClient(t), []string{"UPPER"}); err == nil || !strings.Contains(err.Error(), "UPPER") {
		t.Errorf("a bad reference: %v", err)
	}
}

// TestTakenLayersAreThere: what is taken early is not sent again, to any destination.
func TestTakenLayersAreThere(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	e, err := push.Registry(newClient(t), []string{p.Host + "/a", p.Host + "/b"})
	if err != nil {
		t.Fatal(err)
	}
	img := pushtest.Image(t, "one")
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if err := e.Take(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.Count(http.MethodPut, "/blobs/"); n != 2 {
		t.Errorf("%d uploads of two different layers:\n%s", n, p.Log())
	}
	p.Reset()
	if _, err := e.Export(t.Context(), push.Artifact{Image: img}); err != nil {
		t.Fatal(err)
	}
	if n := p.Count(http.MethodPut, "/blobs/"); n != 1 {
		t.Errorf("%d uploads, want the config once:\n%s", n, p.Log())
	}
}

func TestDiscardTellsTheDigest(t *testing.T) {
	img := pushtest.Image(t, "one")
	want, _ := img.Digest()
	r, err := push.Discard().Export(t.Context(), push.Artifact{Image: img})
	if err != nil || len(r) != 1 || r[0].Digest != want {
		t.Errorf("%v, %v", r, err)
	}
}

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

func TestTrap89OneFamily(t *testing.T) {
	host := registrytest.Start(t, registrytest.Config{}).Host
	c := newClient(t)
	if err := c.PushImage(t.Context(), host+"/base", pushtest.Image(t, "one")); err != nil {
		t.Fatal(err)
	}
	img, err := c.Image(t.Context(), host+"/base", pushtest.Platform)
	if err != nil {
		t.Fatal(err)
	}
	docker, err := push.InFamily(img, push.Docker)
	if err != nil {
		t.Fatal(err)
	}
	m, err := docker.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(m.MediaType), "docker") || !strings.Contains(string(m.Config.MediaType), "docker") {
		t.Errorf("%+v", m)
	}
	layers, err := docker.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		mt, _ := l.MediaType()
		if mt != m.Layers[i].MediaType || !strings.Contains(string(mt), "docker") {
			t.Errorf("layer %d is %q, the manifest says %q", i, mt, m.Layers[i].MediaType)
		}
		if _, ok := l.(*remote.MountableLayer); !ok {
			t.Errorf("layer %d cannot be mounted any more", i)
		}
	}
	if err := validate.Image(docker); err != nil {
		t.Error(err)
	}
	if same, err := push.InFamily(docker, push.Docker); err != nil || same != docker {
		t.Errorf("an image that is in the family already was changed: %v", err)
	}
	back, err := push.InFamily(docker, push.OCI)
	if err != nil {
		t.Fatal(err)
	}
	h1, _ := img.Digest()
	h2, _ := back.Digest()
	if h1 != h2 {
		t.Errorf("there and back: %v, then %v", h1, h2)
	}
	if _, err := push.Docker.In("application/vnd.oci.image.layer.v1.tar+zstd"); err == nil {
		t.Error("Docker's family has no zstd")
	}
}

func TestDigestFiles(t *testing.T) {
	dir := t.TempDir()
	h := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	refs := []string{"reg.example/x:1", "debian", "reg.example/y@" + h.String()}
	for _, tc := range []struct {
		write func(path string) error
		want  string
	}{
		{func(p string) error { return push.WriteDigestFile(p, h) }, h.String()},
		{func(p string) error { return push.WriteImageNameWithDigestFile(p, refs, h) },
			"reg.example/x@" + h.String() + "\nindex.docker.io/library/debian@" + h.String() + "\nreg.example/y@" + h.String() + "\n"},
		{func(p string) error { return push.WriteImageNameTagWithDigestFile(p, refs, h) },
			"reg.example/x:1@" + h.String() + "\nindex.docker.io/library/debian:latest@" + h.String() + "\nreg.example/y@" + h.String() + "\n"},
	} {
		path := filepath.Join(dir, "file")
		if err := tc.write(path); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(path); string(b) != tc.want {
			t.Errorf("got %q, want %q", b, tc.want)
		}
	}
	if err := push.WriteDigestFile(filepath.Join(dir, "none", "file"), h); err == nil {
		t.Error("no error for a directory that does not exist")
	}
	noTemps(t, dir)
}

func TestParseOutput(t *testing.T) {
	for in, want := range map[string]push.Output{
		"out":                             {Type: push.OutputLocal, Dest: "out"},
		"-":                               {Type: push.OutputTar, Dest: "-"},
		"type=local,dest=out":             {Type: push.OutputLocal, Dest: "out"},
		"type=tar,dest=-":                 {Type: push.OutputTar, Dest: "-"},
		`type=tar,"dest=a,b.tar"`:         {Type: push.OutputTar, Dest: "a,b.tar"},
		"type=oci,dest=o.tar,name=x":      {Type: push.OutputOCI, Dest: "o.tar", Names: []string{"x"}},
		"type=oci,dest=o,tar=false":       {Type: push.OutputOCI, Dest: "o", Directory: true},
		"type=docker,dest=d.tar":          {Type: push.OutputDocker, Dest: "d.tar"},
		`type=image,"name=a,b",push=true`: {Type: push.OutputImage, Names: []string{"a", "b"}, Push: true},
		"type=registry,name=a":            {Type: push.OutputImage, Names: []string{"a"}, Push: true},
		"type=image":                      {Type: push.OutputImage},
	} {
		got, err := push.ParseOutput(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: got %s, want %s", in, a, b)
		}
	}
	for in, want := range map[string]string{
		"":                                 "key=value",
		"type=locale,dest=x":               `did you mean "local"`,
		"type=local,desk=x":                `did you mean "dest"`,
		"type=local,dest=x,dest=y":         "twice",
		"type=local,dest=x,zzzzzz=1":       "known are dest",
		"type=local,dest=x,push=true":      "has no key",
		"type=local,dest=x,mode=delete":    "not supported",
		"type=oci,dest=x,compression=zstd": "not supported",
		"dest=x,type":                      "not key=value",
		"dest=x,name=y":                    "type is missing",
		"type=local":                       "dest is missing",
		"type=local,dest=-":                "no directory",
		"type=docker":                      "no daemon",
		"type=docker,dest=x,tar=false":     "tar",
		"type=image,name=x,push=maybe":     "neither",
		"type=registry":                    "name is missing",
	} {
		_, err := push.ParseOutput(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
	}
}
