package push_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
