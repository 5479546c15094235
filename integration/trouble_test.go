package integration

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// TestRegistryThatIsDown holds that the error names the registry that does not answer, whatever it was needed for.
func TestRegistryThatIsDown(t *testing.T) {
	t.Parallel()
	dead := registrytest.Nobody(t)
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + dead + "/base:1\nRUN true\n"})
	s.mustFail([]string{"Dockerfile:1", dead + "/base:1", "connection refused", "nothing listens at " + dead}, "--no-push")

	s.lay(map[string]string{"Dockerfile": "FROM " + busybox(t) + "\nRUN echo made > /made\n"})
	living := repo(t, "1")
	s.mustFail([]string{dead + "/image:1", "connection refused"}, "--destination", dead+"/image:1", "--destination", living)
	s.clean()
}

// TestUnknownBase holds that a base that does not exist is named, with the line that asks for it.
func TestUnknownBase(t *testing.T) {
	t.Parallel()
	missing := repo(t, "none")
	s := newSite(t, map[string]string{"Dockerfile": "FROM scratch AS a\n\nFROM " + missing + "\nRUN true\n"})
	s.mustFail([]string{"Dockerfile:3", missing, "FROM "}, "--no-push")

	known := strings.TrimSuffix(busybox(t), ":1") + ":none"
	s.lay(map[string]string{"Dockerfile": "FROM " + known + "\n"})
	s.mustFail([]string{"Dockerfile:1", known}, "--no-push")
}

// TestRefusedCredentials holds that the error of a registry that does not let us in says with which credentials it was
// tried, where they are from, and that steps do not go on for an image that cannot be pushed.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	closed := registrytest.Start(t, registrytest.Config{Htpasswd: registrytest.Alice})
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + busybox(t) + "\nCOPY app /\nRUN sleep 4000\n", "app": "one"})
	dest := closed.Host + "/team/app:1"
	config := filepath.Join(s.dir, "home", ".docker", "config.json")

	s.mustFail([]string{dest[:len(dest)-2], "no credentials for " + closed.Host, filepath.Dir(config)}, "--destination", dest)

	auth := base64.StdEncoding.EncodeToString([]byte("alice:wrong"))
	if err := os.Mkdir(filepath.Dir(config), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, closed.Host, auth), 0o600); err != nil {
		t.Fatal(err)
	}
	out := s.mustFail([]string{"the credentials for " + closed.Host + " were refused", config}, "--destination", dest)
	if strings.Contains(out, "wrong") || strings.Contains(out, auth) {
		t.Errorf("the password is in the output:\n%s", out)
	}
	s.lay(map[string]string{"Dockerfile": "FROM " + dest + "\nRUN sleep 4000\n"})
	s.mustFail([]string{"Dockerfile:1", dest, "were refused"}, "--no-push")
}

// TestFailingStep holds that nothing of a build that fails is to be seen but the reason.
func TestFailingStep(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + busybox(t) + `
RUN echo fine > /fine
RUN for i in $(seq 300); do echo line $i; done; echo it broke >&2; exit 37
RUN echo not $((1 + 1)) reached
`})
	dest := repo(t, "1")
	archive, digest := filepath.Join(s.dir, "image.tar"), filepath.Join(s.dir, "digest")
	out := s.mustFail([]string{"Dockerfile:3", "exit code: 37", "line 300", "it broke"},
		"--destination", dest, "--tar-path", archive, "--digest-file", digest, "--progress", "quiet")
	if strings.Contains(out, "not 2 reached") {
		t.Errorf("the next step ran:\n%s", out)
	}
	absent(t, dest)
	for _, name := range []string{archive, digest} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	s.clean()
}

// smallDisk mounts a filesystem of so many bytes on dir, which it makes, until the test ends.
func smallDisk(t *testing.T, dir string, size int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func resize(t *testing.T, dir string, size int) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_NOSUID, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
}

// TestFullWorkDirectory fills the disk with the work directory at each depth, and then makes room.
func TestFullWorkDirectory(t *testing.T) {
	for name, dockerfile := range map[string]string{
		"copy": "COPY large /\n",
		"run":  "RUN dd if=/dev/urandom of=/large bs=1M count=12\n",
		"base": "RUN echo > /small\n",
	} {
		for _, isolation := range []string{"overlay", "directory"} {
			t.Run(name+"-"+isolation, func(t *testing.T) {
				t.Parallel()
				d := newDepths(t, "")
				from, size := busybox(t), 8<<20
				if name == "base" {
					from = d.base
				}
				s := newSite(t, map[string]string{"Dockerfile": "FROM " + from + "\n" + dockerfile, "large": noise(name, 16<<20)})
				s.isolation = isolation
				smallDisk(t, s.work, size)
				// The program's own words, or those of the step's.
				s.mustFail([]string{"o space left on device"}, "--destination", repo(t, "full"))
				absent(t, repo(t, "full"))
				s.clean()

				resize(t, s.work, 128<<20)
				s.mustBuild("--destination", repo(t, "roomy"))
				s.clean()
				got := files(t, pull(t.Context(), t, repo(t, "roomy")))
				want := map[string]string{"copy": "large", "run": "large", "base": "opt/" + marker}[name]
				if got[want] == "" || got["bin/busybox"] == "" {
					t.Error("files are missing")
				}
			})
		}
	}
}

// TestFullDestination fills the disk that an output is written to.
func TestFullDestination(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY large /\n", "large": noise("output", 16<<20)})
	disk := filepath.Join(s.dir, "disk")
	smallDisk(t, disk, 4<<20)
	for _, flags := range [][]string{
		{"--oci-layout-path", filepath.Join(disk, "layout")},
		{"--tar-path", filepath.Join(disk, "image.tar"), "--destination", "example.com/image:1"},
		{"--output", "type=oci,dest=" + filepath.Join(disk, "oci.tar")},
		{"--output", "type=tar,dest=" + filepath.Join(disk, "root.tar")},
		{"--output", "type=local,dest=" + filepath.Join(disk, "root")},
	} {
		s.mustFail([]string{"no space left on device"}, append(flags, "--no-push")...)
		for _, p := range below(t, disk) {
			if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() && fi.Size() > 1<<10 {
				t.Errorf("%v leaves %s of %d bytes", flags, p, fi.Size())
			}
		}
		if _, err := os.Lstat(filepath.Join(disk, "layout", "index.json")); err == nil {
			t.Error("the layout names an image that it does not hold")
		}
	}
	s.clean()
}

// TestUnreadableContext holds that a file that may not be read is named.
func TestUnreadableContext(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY dir /\n", "dir/open": "o", "dir/secret": "s"}).as(ordinary)
	secret := filepath.Join(s.context, "dir", "secret")
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	s.mustFail([]string{"Dockerfile:2", "dir/secret", "permission denied"}, "--no-push")
	s.lay(map[string]string{"Dockerfile": "FROM scratch\nCOPY dir/open /\n"})
	s.mustBuild("--no-push")
}

// TestImpossibleWorkDirectory holds that the error says what to do.
func TestImpossibleWorkDirectory(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}).as(ordinary)
	for _, dir := range []string{"/proc/none", filepath.Join(s.context, "Dockerfile"), "/none"} {
		s.work = dir
		s.mustFail([]string{dir, "work directory", "name another"}, "--no-push")
	}
}

// TestDamagedWorkDirectory damages what a build finds in the work directory: it has to make the same image as ever.
func TestDamagedWorkDirectory(t *testing.T) {
	truncate := func(name string) error {
		fi, err := os.Stat(name)
		if err != nil {
			return err
		}
		return os.Truncate(name, fi.Size()/2)
	}
	garbage := func(name string) error { return os.WriteFile(name, []byte("{garbage"), 0o600) }
	for _, c := range []struct {
		name, pattern string
		damage        func(string) error
	}{
		{"truncated blobs", "blobs/*", truncate},
		{"empty blobs", "blobs/*", func(name string) error { return os.Truncate(name, 0) }},
		{"no blobs", "blobs/*", os.Remove},
		{"truncated indexes", "indexes/*", truncate},
		{"garbage for indexes", "indexes/*", garbage},
		{"no indexes", "indexes/*", os.Remove},
		{"truncated steps", "steps/*", truncate},
		{"garbage for steps", "steps/*", garbage},
		{"empty steps", "steps/*", func(name string) error { return os.Truncate(name, 0) }},
		{"links to nowhere", "layers/overlay/*/chains/*", func(name string) error {
			if err := os.Remove(name); err != nil {
				return err
			}
			return os.Symlink("../data/nowhere", name)
		}},
		{"no data", "layers/overlay/*/data/*", os.RemoveAll},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			d := newDepths(t, "COPY app /app\nRUN cp /app /copy\nRUN echo more > /more\n")
			d.mustBuild("--no-push")
			names, err := filepath.Glob(filepath.Join(d.work, c.pattern))
			if err != nil || len(names) == 0 {
				t.Fatalf("%d files match: %v", len(names), err)
			}
			for _, name := range names {
				if err := c.damage(name); err != nil {
					t.Fatal(err)
				}
			}
			d.lay(map[string]string{"Dockerfile": "FROM " + d.base +
				"\nCOPY app /app\nRUN cp /app /copy\nRUN echo more > /more\nRUN cat /more /opt/folder/small > /all\n"})
			d.rebuilds()
			d.mustBuild("--no-push")
		})
	}
}

// TestForgedBlob damages a layer in a way that only its digest shows. The build may refuse it, but must not use it.
func TestForgedBlob(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY app /\n", "app": noise("blob", 1<<20)})
	s.mustBuild("--no-push")
	names, err := filepath.Glob(filepath.Join(s.work, "blobs", "*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%d blobs: %v", len(names), err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(names[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{
		{"--destination", repo(t, "1")},
		{"--oci-layout-path", filepath.Join(s.dir, "layout")},
		{"--output", "type=local,dest=" + filepath.Join(s.dir, "root")},
	} {
		if out, err := s.build(flags...); err == nil {
			t.Errorf("%v: a forged layer was used:\n%s", flags, out)
		}
	}
	absent(t, repo(t, "1"))
	s.mustBuild("--no-cache", "--destination", repo(t, "2"))
	s.mustBuild("--destination", repo(t, "1"))
}

// TestContextThatChanges changes a file after its key was made and before it is copied.
func TestContextThatChanges(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	s := newSite(t, map[string]string{
		"Dockerfile": "FROM " + busybox(t) + "\nRUN " + g.wait + "\nCOPY app /\n", "app": "before",
	})
	r := s.start(s.args("--destination", repo(t, "1"))...)
	open := g.arrive(1)
	s.lay(map[string]string{"app": "after!"})
	open()
	if out, err := r.wait(); err != nil {
		if !strings.Contains(out, "changed during the build") {
			t.Errorf("the error does not say why:\n%s", out)
		}
		absent(t, repo(t, "1"))
	}
	// The step may have to run again: the end of the first build can come before its layer is kept.
	go func() {
		for c, err := g.l.Accept(); err == nil; c, err = g.l.Accept() {
			c.Close()
		}
	}()
	// Whatever was done then, what was before must not come back from the cache as what is now, nor the reverse.
	for _, content := range []string{"before", "after!"} {
		s.lay(map[string]string{"app": content})
		s.mustBuild("--destination", repo(t, "2"))
		if got := files(t, pull(t.Context(), t, repo(t, "2")))["app"]; got != content {
			t.Errorf("app is %q, want %q", got, content)
		}
	}
}

// TestHugeFile copies ten times as much as the builder may use in memory, and something that cannot be read to
// its end.
func TestHugeFile(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", "huge": ""})
	if err := os.Truncate(filepath.Join(s.context, "huge"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(s.context, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := s.start(s.args("--destination", repo(t, "1"))...)
	peak := r.peak()
	if out, err := r.wait(); err != nil {
		t.Fatal(err, out)
	}
	if kb := <-peak; kb > 100<<10 || kb == 0 {
		t.Errorf("the builder used %d KiB", kb)
	}
	layers := layerDigests(t, pull(t.Context(), t, repo(t, "1")))
	if len(layers) != 1 {
		t.Errorf("layers %v", layers)
	}
}

// peak follows the program's memory and gives, in the end, the most that it had, in KiB.
func (r *run) peak() <-chan int {
	peak := make(chan int, 1)
	go func() {
		most := 0
		for {
			select {
			case <-r.done:
				peak <- most
				return
			case <-time.After(10 * time.Millisecond):
			}
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(data)) {
				var kb int
				if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
					most = max(most, kb)
				}
			}
		}
	}()
	return peak
}

// TestRegistryThatFailsNowAndThen holds that hiccups of a registry neither end a build nor change its image.
func TestRegistryThatFailsNowAndThen(t *testing.T) {
	t.Parallel()
	d := newDepths(t, "COPY app /\nRUN echo > /ran\n")
	for _, f := range []registrytest.Fault{
		registrytest.Times(1, http.MethodGet, "/manifests/", registrytest.Status(http.StatusServiceUnavailable)),
		registrytest.Times(1, http.MethodGet, "/blobs/"+d.layers[1].String(), registrytest.CutResponse(1<<20)),
		registrytest.Times(1, http.MethodPut, "/blobs/uploads/", registrytest.Status(http.StatusBadGateway)),
		registrytest.Times(1, http.MethodPut, "/manifests/", registrytest.Status(http.StatusInternalServerError)),
	} {
		d.proxy.Inject(f)
	}
	d.mustBuild("--destination", d.destination("image"))
	got := files(t, pull(t.Context(), t, d.destination("image")))
	if got["app"] != "one" || !slices.Contains(keys(got), "ran") || got["opt/"+marker] == "" {
		t.Error("files are missing")
	}
	if err := parts.Push(t.Context(), repo(t, "1"), pull(t.Context(), t, d.destination("image"))); err != nil {
		t.Errorf("the image cannot be read in full: %v", err)
	}
}

func keys(m map[string]string) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	return list
}
