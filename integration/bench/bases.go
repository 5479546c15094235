package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// bases pushes a busybox, a small Debian, one of 240 MB, and one with the Go toolchain.
func (b *bench) bases(ctx context.Context) error {
	busybox, err := parts.Busybox(ctx, b.dir)
	if err != nil {
		return err
	}
	debian, err := cachedDebian(ctx)
	if err != nil {
		return err
	}
	big, err := b.largeBase(debian)
	if err != nil {
		return err
	}
	golang, err := b.withGo(ctx, debian)
	if err != nil {
		return err
	}
	for repo, img := range map[string]v1.Image{"busybox": busybox, "debian": debian, "big": big, "go": golang} {
		if err := parts.Push(ctx, b.registry.Addr+"/base/"+repo+":1", img); err != nil {
			return err
		}
		size, err := uncompressed(img)
		if err != nil {
			return err
		}
		fmt.Printf("base %s: %d MB of files\n", repo, size/1e6)
	}
	return nil
}

// cachedDebian keeps the image where the tests do.
func cachedDebian(ctx context.Context) (v1.Image, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return parts.Debian(ctx, filepath.Join(cache, "gobuild-tests"))
}

// largeBase adds a layer with the libraries of a Debian several times: they compress as programs do.
func (b *bench) largeBase(debian v1.Image) (v1.Image, error) {
	return b.withLayer(debian, func(w *tar.Writer) error {
		for i := range 5 {
			if err := copyFiles(w, debian, regexp.MustCompile(`^(\./)?usr/lib/x86_64-linux-gnu/(lib[a-m][^/]*)$`), fmt.Sprintf("opt/%d/", i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyFiles writes those regular files of an image again whose name matches, its second group being the name to keep.
func copyFiles(w *tar.Writer, img v1.Image, names *regexp.Regexp, below string) error {
	rc := mutate.Extract(img)
	defer rc.Close()
	for r := tar.NewReader(rc); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		m := names.FindStringSubmatch(h.Name)
		if m == nil || h.Typeflag != tar.TypeReg {
			continue
		}
		h.Name = below + m[2]
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
	}
}

// withGo adds the Go toolchain that has built this program.
func (b *bench) withGo(ctx context.Context, base v1.Image) (v1.Image, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	return b.withLayer(base, func(w *tar.Writer) error {
		return addFolder(w, strings.TrimSpace(string(root)), "usr/local/go")
	})
}

func (b *bench) withLayer(base v1.Image, fill func(*tar.Writer) error) (v1.Image, error) {
	f, err := os.CreateTemp(b.dir, "layer-")
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(f)
	if err := errors.Join(fill(w), w.Close(), f.Close()); err != nil {
		return nil, err
	}
	l, err := parts.Layer(f.Name())
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(base, l)
}

func addFolder(w *tar.Writer, folder, place string) error {
	return filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(file); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		h.Name = filepath.ToSlash(filepath.Join(place, rel))
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(w, in)
		return err
	})
}

// uncompressed is how many bytes the layers of an image have.
func uncompressed(img v1.Image) (n int64, err error) {
	layers, err := img.Layers()
	if err != nil {
		return 0, err
	}
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			return 0, err
		}
		k, err := io.Copy(io.Discard, rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			return 0, err
		}
		n += k
	}
	return n, nil
}

// layerBytes is the size of the compressed layers of a pushed image.
func layerBytes(ctx context.Context, ref string) (n int64, err error) {
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return 0, err
	}
	img, err := remote.Image(r, remote.WithContext(ctx))
	if err != nil {
		return 0, err
	}
	m, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	for _, l := range m.Layers {
		n += l.Size
	}
	return n, nil
}
