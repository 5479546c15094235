package parts

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// baseTime is what the files of bases are dated, and their configs.
func baseTime() time.Time { return time.Date(2021, 6, 7, 8, 9, 10, 0, time.UTC) }

// Image makes an image of layer archives, the lowest first, with the config that small official images have.
func Image(layers ...v1.Layer) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	var adds []mutate.Addendum
	for i, l := range layers {
		adds = append(adds, mutate.Addendum{Layer: l, History: v1.History{
			Created: v1.Time{Time: baseTime()}, CreatedBy: fmt.Sprintf("base layer %d", i+1), Author: "gobuild tests",
		}})
	}
	img, err := mutate.Append(img, adds...)
	if err != nil {
		return nil, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.Architecture, c.OS = "amd64", "linux"
	c.Created = v1.Time{Time: baseTime()}
	c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	c.Config.Cmd = []string{"sh"}
	return mutate.ConfigFile(img, c)
}

// Layer is a layer whose uncompressed tar is in file.
func Layer(file string) (v1.Layer, error) {
	return tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayer))
}

// Push writes an image to a registry that speaks plain HTTP.
func Push(ctx context.Context, ref string, img v1.Image) error {
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(r, img, remote.WithContext(ctx))
}

// Busybox makes a base of Debian's static busybox: the few files that Dockerfiles take for granted, with links for all
// applets, in directories that are not merged into /usr.
func Busybox(ctx context.Context, dir string) (v1.Image, error) {
	bin, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	applets, err := exec.CommandContext(ctx, bin, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list applets: %w", err)
	}
	w := newTarWriter()
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/bin", "usr/sbin", "run", "var"} {
		w.add(tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	w.add(tar.Header{Name: "root/", Typeflag: tar.TypeDir, Mode: 0o700}, "")
	w.add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, "")
	w.add(tar.Header{Name: "home/app/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 1000, Gid: 1000}, "")
	w.add(tar.Header{Name: "var/run", Typeflag: tar.TypeSymlink, Linkname: "/run"}, "")
	w.add(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644},
		"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\napp:x:1000:1000:app:/home/app:/bin/sh\n"+
			"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
	w.add(tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644},
		"root:x:0:\ndaemon:x:1:\nstaff:x:50:app,nobody\napp:x:1000:\nnogroup:x:65534:\nextra:x:2000:app\n")
	w.add(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, string(data))
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			w.add(tar.Header{Name: "bin/" + a, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
		}
	}
	return w.image(filepath.Join(dir, "busybox.tar"))
}

// tarWriter collects files dated baseTime.
type tarWriter struct {
	buf bytes.Buffer
	tw  *tar.Writer
	err error
}

func newTarWriter() *tarWriter {
	w := &tarWriter{}
	w.tw = tar.NewWriter(&w.buf)
	return w
}

func (w *tarWriter) add(h tar.Header, data string) {
	if w.err != nil {
		return
	}
	h.ModTime, h.Size, h.Format = baseTime(), int64(len(data)), tar.FormatPAX
	if w.err = w.tw.WriteHeader(&h); w.err == nil {
		_, w.err = w.tw.Write([]byte(data))
	}
}

func (w *tarWriter) image(file string) (v1.Image, error) {
	if w.err == nil {
		w.err = w.tw.Close()
	}
	if w.err != nil {
		return nil, w.err
	}
	if err := os.WriteFile(file, w.buf.Bytes(), 0o600); err != nil {
		return nil, err
	}
	l, err := Layer(file)
	if err != nil {
		return nil, err
	}
	return Image(l)
}

// Debian makes a base of Debian 12's minimal set of packages. The archive is kept in cache, since it takes a
// minute to make.
func Debian(ctx context.Context, cache string) (v1.Image, error) {
	mirrors, err := debianMirrors(ctx)
	if err != nil {
		return nil, err
	}
	args := append([]string{"--quiet", "--variant=minbase", "--mode=root", suite, "-"}, mirrors...)
	key := sha256.Sum256(fmt.Appendf(nil, "%q", args))
	file := filepath.Join(cache, fmt.Sprintf("debian-%s-%x.tar", suite, key[:6]))
	if _, err := os.Stat(file); err != nil {
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return nil, err
		}
		if err := debootstrap(ctx, file, args); err != nil {
			return nil, err
		}
	}
	l, err := Layer(file)
	if err != nil {
		return nil, err
	}
	return Image(l)
}

const suite = "bookworm"

func debootstrap(ctx context.Context, file string, args []string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".debian-*")
	if err != nil {
		return err
	}
	defer func() {
		if cerr := tmp.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			err = os.Rename(tmp.Name(), file)
		}
		if err != nil {
			os.Remove(tmp.Name()) //nolint:errcheck // the first error matters
		}
	}()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Stdout, cmd.Stderr = tmp, &stderr
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", baseTime().Unix()))
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mmdebstrap: %w\n%s", err, lastLines(stderr.String(), 20))
	}
	return nil
}

// debianMirrors returns the sources that apt on this machine takes Debian 12 from; none leaves the choice to mmdebstrap.
func debianMirrors(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(ORIGIN)|$(CODENAME)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").Output()
	if err != nil {
		return nil, fmt.Errorf("ask apt for its sources: %w", err)
	}
	var mirrors []string
	for line := range strings.Lines(string(out)) {
		f := strings.SplitN(strings.TrimSpace(line), "|", 3)
		if len(f) == 3 && f[0] == "Debian" && strings.HasPrefix(f[1], suite) {
			mirrors = append(mirrors, f[2])
		}
	}
	return mirrors, nil
}
