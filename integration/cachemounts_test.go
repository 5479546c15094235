package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// mountJob is a Dockerfile whose only process mounts a cache on /c and runs a script.
func mountJob(t *testing.T, script string) map[string]string {
	t.Helper()
	return map[string]string{"Dockerfile": "FROM " + busybox(t) + "\nRUN --mount=type=bind,target=/src --mount=type=cache,id=shared,uid=3,mode=751,target=/c cd /c; " + script + "\n"}
}

// job builds on a machine that has never built before.
func (s *site) job(script string, more ...string) string {
	s.t.Helper()
	if err := os.RemoveAll(s.work); err != nil {
		s.t.Fatal(err)
	}
	s.lay(mountJob(s.t, script))
	return s.mustBuild(append([]string{"--no-push"}, more...)...)
}

// said checks that a step printed text.
func said(t *testing.T, out, text string) {
	t.Helper()
	if !strings.Contains(out, text) {
		t.Errorf("no step printed %q:\n%s", text, out)
	}
}

// TestCacheMountsLiveOn hands a cache from job to job, in a registry and in a directory.
func TestCacheMountsLiveOn(t *testing.T) {
	for _, isolation := range []string{"overlay", "directory"} {
		for who, become := range map[string]func(*site){
			"root": func(*site) {}, "one-id": func(s *site) { s.as(ordinary) }, "range": func(s *site) { s.withRange() },
		} {
			t.Run(isolation+"-"+who, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, map[string]string{"app": noise(t.Name(), 1<<20)})
				become(s)
				s.isolation = isolation
				proxy := registrytest.Before(t, registry(t).Addr)
				repo := proxy.Host + "/tests/" + path(t.Name())
				dir := "type=local,dest=" + filepath.Join(s.dir, "home", "mounts")
				shared := []string{"--cache-mounts-from", repo, "--cache-mounts-to", repo, "--cache-mounts-to", dir}
				own, owner := "", " 0:0 "
				if who != "one-id" {
					own, owner = "chown 5:6 owned; ", " 5:6 "
				}
				s.job("ls -a; cp /src/app big; echo one > gone; echo one > kept; ln kept linked; mkdir -m 2770 dir; echo x > owned; "+own+"chmod 4750 owned", shared...)
				if sent := bytesSent(proxy); sent < 1<<20 {
					t.Errorf("the first job sent %d bytes", sent)
				}
				proxy.Reset()
				out := s.job("stat -c '%n %A %u:%g %h' . * | sort; cmp big /src/app && rm gone && echo two > new", shared...)
				for _, want := range []string{"big -rw-r--r-- 0:0 1", "dir drwxrws--- 0:0 2", "kept -rw-r--r-- 0:0 2", "linked -rw-r--r-- 0:0 2", "owned -rwsr-x---" + owner} {
					said(t, out, want)
				}
				if who != "one-id" {
					said(t, out, ". drwxr-x--x 3:0 ")
				}
				if sent := bytesSent(proxy); sent == 0 || sent > 10_000 {
					t.Errorf("a small change sent %d bytes:\n%s", sent, proxy.Log())
				}
				out = s.job("echo there: *", "--cache-mounts-from", strings.Replace(dir, "dest", "src", 1))
				said(t, out, "there: big dir kept linked new owned")
				if strings.Contains(out, "WARN") || strings.Contains(out, "warning") {
					t.Errorf("warned:\n%s", out)
				}
				s.clean()
			})
		}
	}
}

// bytesSent is the length of all bodies that the registry behind a proxy has got.
func bytesSent(p *registrytest.Proxy) (n int64) {
	for _, r := range p.Seen("", "/blobs/uploads/") {
		n += max(r.Length, 0)
	}
	return n
}

// TestCacheMountsAreLazy holds that nothing is asked, nor saved, for a step that need not run.
func TestCacheMountsAreLazy(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	proxy := registrytest.Before(t, registry(t).Addr)
	mounts, steps := proxy.Host+"/tests/"+path(t.Name())+"/mounts", proxy.Host+"/tests/"+path(t.Name())+"/steps"
	all := []string{"--cache-mounts-from", mounts, "--cache-mounts-to", mounts, "--cache-from", steps, "--cache-to", steps}
	s.job("echo x > f", all...)
	proxy.Reset()
	s.job("echo x > f", all...)
	if n := proxy.Count("", "/mounts/"); n != 0 {
		t.Errorf("%d requests:\n%s", n, proxy.Log())
	}
}

// TestCacheMountsOfJobsAtOnce has two jobs save at the same time.
func TestCacheMountsOfJobsAtOnce(t *testing.T) {
	t.Parallel()
	place := registry(t).Addr + "/tests/" + path(t.Name())
	shared := []string{"--no-push", "--cache-mounts-from", place, "--cache-mounts-to", place}
	newSite(t, nil).job("echo x > first", shared...)
	g := newGate(t)
	var runs []*run
	for i := range 2 {
		s := newSite(t, mountJob(t, fmt.Sprintf("ls; echo x > job%d; %s", i, g.wait)))
		runs = append(runs, s.start(s.args(shared...)...))
	}
	g.arrive(2)()
	for _, r := range runs {
		out, err := r.wait()
		if err != nil {
			t.Fatal(err)
		}
		said(t, out, "saved cache mount shared")
	}
	out := newSite(t, nil).job("echo there: *", shared...)
	if !strings.Contains(out, "there: first job0") && !strings.Contains(out, "there: first job1") {
		t.Errorf("neither is there:\n%s", out)
	}
}

// TestCacheMountsAfterAFailure holds that what a build has fetched is not lost with it.
func TestCacheMountsAfterAFailure(t *testing.T) {
	t.Parallel()
	place := "type=local,src=" + filepath.Join(t.TempDir(), "mounts")
	s := newSite(t, mountJob(t, "echo x > fetched; false"))
	s.mustFail([]string{"exit code: 1"}, "--no-push", "--cache-mounts-to", strings.Replace(place, "src", "dest", 1))
	said(t, s.job("echo there: *", "--cache-mounts-from", place), "there: fetched")
}

// TestCacheMountsWithSeed holds that a stage is what a cache begins as only where nothing was saved.
func TestCacheMountsWithSeed(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "mounts")
	seeded := func(script string) string {
		return "FROM " + busybox(t) + " AS seed\nRUN echo x > /seed\nFROM " + busybox(t) +
			"\nRUN --mount=type=cache,from=seed,sharing=private,target=/c cd /c; " + script + "\n"
	}
	for _, job := range []struct{ script, want string }{
		{"echo there: see* sav*; rm seed; echo x > saved", "there: seed sav*"},
		{"echo there: see* sav*", "there: see* saved"},
	} {
		s := newSite(t, map[string]string{"Dockerfile": seeded(job.script)})
		said(t, s.mustBuild("--no-push", "--cache-mounts-from=type=local,src="+place, "--cache-mounts-to=type=local,dest="+place), job.want)
	}
}

// TestCacheMountsTrouble holds that no trouble with a place fails a build, and that each is told.
func TestCacheMountsTrouble(t *testing.T) {
	for trap, fault := range map[string]registrytest.Fault{
		"refused": registrytest.Status(http.StatusForbidden), "broken": registrytest.Status(http.StatusInternalServerError),
		"corrupt": func(r *http.Request, next http.Handler) http.Handler {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
				return nil
			}
			return registrytest.Corrupt()(r, next)
		},
		"lost": func(r *http.Request, next http.Handler) http.Handler {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
				return nil
			}
			return registrytest.Status(http.StatusNotFound)(r, next)
		},
	} {
		t.Run(trap, func(t *testing.T) {
			t.Parallel()
			proxy := registrytest.Before(t, registry(t).Addr)
			place := proxy.Host + "/tests/" + path(t.Name())
			shared := []string{"--cache-mounts-from", place, "--cache-mounts-to", place}
			s := newSite(t, nil)
			s.job("echo x > f", shared...)
			proxy.Inject(fault)
			out := s.job("echo there: *; echo y > g", shared...)
			said(t, out, "there: *")
			said(t, out, "cache mount shared")
			s.clean()
		})
	}
}

// TestCacheMountsLimits checks the flags that keep caches from growing old and large.
func TestCacheMountsLimits(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "mounts")
	from, to := "--cache-mounts-from=type=local,src="+place, "--cache-mounts-to=type=local,dest="+place
	s := newSite(t, nil)
	said(t, s.job("echo 0123456789 > f", to, "--cache-mounts-max-size", "10B"), "more than 10")
	said(t, s.job("echo there: *", from), "there: *")
	s.job("echo 0123456789 > f", to, "--cache-mounts-max-size", "11B")
	said(t, s.job("echo there: *", from, "--cache-mounts-ttl", "1ms"), "there: *")
	said(t, s.job("echo there: *", from), "there: f")
}

// TestCacheMountsOfSeveralPlatforms holds that steps for several platforms have one directory, as with BuildKit, which is saved
// for each of them: jobs for one platform find it, and leave it to those for another.
func TestCacheMountsOfSeveralPlatforms(t *testing.T) {
	t.Parallel()
	// The base is an image that is in no index, so its programs run for whatever platform a stage says that it is.
	stage := func(platform, name, script string) string {
		return "FROM --platform=" + platform + " " + busybox(t) + " AS " + name +
			"\nRUN --mount=type=cache,id=shared,target=/c cd /c; " + script + "\n"
	}
	place := filepath.Join(t.TempDir(), "mounts")
	build := func(dockerfile string) string {
		s := newSite(t, map[string]string{"Dockerfile": dockerfile})
		return s.mustBuild("--no-push", "--cache-mounts-from=type=local,src="+place, "--cache-mounts-to=type=local,dest="+place)
	}
	out := build(stage("linux/amd64", "one", "echo x > of-amd; echo x > /made") + stage("linux/arm64", "two", "true") +
		"COPY --from=one /made /\nRUN --mount=type=cache,id=shared,target=/c cd /c; echo there: *; echo x > of-arm\n")
	said(t, out, "there: of-amd")
	said(t, build(stage("linux/amd64", "job", "echo there: *; echo x > more-amd")), "there: of-amd of-arm")
	said(t, build(stage("linux/arm64", "job", "echo there: *")), "there: of-amd of-arm")
	said(t, build(stage("linux/amd64", "job", "echo there: *")), "there: more-amd of-amd of-arm")
}
