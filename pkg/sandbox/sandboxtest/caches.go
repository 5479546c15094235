package sandboxtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

func (s *suite) testCaches(t *testing.T) {
	s.sub(t, "empty", s.testCacheEmpty)
	s.sub(t, "seed", s.testCacheSeed)
	s.sub(t, "path", s.testCachePath)
	s.sub(t, "at once", s.testCacheAtOnce)
	s.sub(t, "other driver", s.testCacheOtherDriver)
	s.sub(t, "stubs", s.testCacheStubs)
}

// cacheDir is an empty directory for a cache that d removes in the end, as only it can with subordinate ids.
func cacheDir(t testing.TB, d sandbox.Driver) string {
	t.Helper()
	dir := t.TempDir()
	keeper := d.(sandbox.CacheKeeper)
	t.Cleanup(func() {
		if err := keeper.RemoveCache(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (s *suite) testCacheEmpty(t *testing.T) {
	d := s.newDriver(t)
	dir := cacheDir(t, d)
	keeper := d.(sandbox.CacheKeeper)
	prepared := func(want bool) {
		t.Helper()
		if got, err := keeper.CachePrepared(dir); got != want || err != nil {
			t.Errorf("prepared: %v, %v", got, err)
		}
	}
	f := openWith(t, d, Base(t))
	f.settle()
	cache := sandbox.CacheSource{Dir: dir, Path: "/", UID: 7, GID: 8, Mode: 0o711}
	prepared(false)
	got := f.mount("stat -c '%a %u:%g' /c; echo kept > /c/x; chmod 4755 /c/x", writable("/c", cache))
	want := "711 7:8\n"
	if s.o.Unsupervised {
		want = "711 0:0\n"
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.unchanged()
	prepared(true)
	g := openWith(t, d, Base(t))
	cache.UID, cache.GID, cache.Mode = 0, 0, 0o777 // too late
	got = g.mount("stat -c '%a' /c/x; cat /c/x; stat -c '%a %u:%g' /c; > /c/y || echo no", readOnly("/c", cache))
	if want = "4755\nkept\n" + want + "sh: can't create /c/y: Read-only file system\nno\n"; got != want {
		t.Errorf("in another root: got %q, want %q", got, want)
	}
	if err := keeper.RemoveCache(t.Context(), dir); err != nil {
		t.Error(err)
	}
	prepared(false)
	if got := g.mount("ls /c; stat -c %a /c", writable("/c", cache)); got != "777\n" {
		t.Errorf("after removal: %q", got)
	}
}

// testCacheSeed holds that a seed is copied whole, once, and not written to.
func (s *suite) testCacheSeed(t *testing.T) {
	d := s.newDriver(t)
	seed := openWith(t, d, Base(t), Layer(t, Dir("seed", 0o750),
		Owned(File("seed/owned", 0o4755, "x"), 1000, 44), Owned(Dir("seed/dir", 0o2770), 1000, 0), File("seed/dir/f", 0o600, "f\n"),
		Symlink("seed/l", "dir/f"), File("seed/h1", 0o644, "h"), Link("seed/h2", "seed/h1")),
		Layer(t, Whiteout("seed/.wh.gone"), File("seed/upper", 0o644, "")))
	seed.run(seed.sh("mkfifo -m 622 /seed/p; touch -r /seed/h1 /seed"))
	f := openWith(t, d, Base(t))
	const list = " && stat -c '%A %u:%g %h %y %N' * dir/f && stat -c '%A %u:%g %y' . && cat dir/f h2"
	want := seed.run(seed.sh("cd /seed" + list))
	dir := cacheDir(t, d)
	cache := sandbox.CacheSource{Dir: dir, Path: "/", Seed: sandbox.BindSource{Root: seed.root, Path: "/seed"}, UID: 5, Mode: 0o700}
	if got := f.mount("cd /c"+list, writable("/c", cache)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	f.mount("rm -r /c/dir; echo more >> /c/h1", writable("/c", cache))
	if got := seed.run(seed.sh("cd /seed" + list)); got != want {
		t.Errorf("the seed is\n%s, want\n%s", got, want)
	}
	if got := f.mount("cat /c/h2; ls /c", writable("/c", sandbox.CacheSource{Dir: dir, Path: "/"})); got != "hmore\nh1\nh2\nl\nowned\np\nupper\n" {
		t.Errorf("later: %q", got)
	}
	one := sandbox.CacheSource{Dir: cacheDir(t, d), Path: "/", Seed: sandbox.BindSource{Root: seed.root, Path: "/seed/l"}}
	if got := f.mount("cat /c", writable("/c", one)); got != "f\n" {
		t.Errorf("a file as seed: %q", got)
	}
	bad := openWith(t, d, Base(t))
	p := bad.sh("true")
	missing := sandbox.CacheSource{Dir: cacheDir(t, d), Path: "/", Seed: sandbox.BindSource{Root: seed.root, Path: "/nope"}}
	p.Mounts = []sandbox.Mount{writable("/c", missing)}
	if err := bad.root.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), `"/nope": not found`) {
		t.Errorf("missing seed: %v", err)
	}
}

// testCachePath holds that a path leads nowhere else than into the cache, whatever steps put there.
func (s *suite) testCachePath(t *testing.T) {
	d := s.newDriver(t)
	dir := cacheDir(t, d)
	f := openWith(t, d, Base(t))
	at := func(path string) sandbox.Mount {
		return writable("/c", sandbox.CacheSource{Dir: dir, Path: path, Mode: 0o755})
	}
	if got := f.mount("stat -c '%a %u' /c; echo here > /c/f", at("/a/b")); got != "755 0\n" {
		t.Errorf("made: %q", got)
	}
	f.mount("ln -s /a /c/abs; ln -s ../../../../../../../../a /c/rel; ln -s ../../../../../../../../etc /c/etc; ln -s /none /c/dangling", at("/"))
	for _, path := range []string{"/abs/b", "/rel/b", "/../../a/b", "/a/b/"} {
		if got := f.mount("cat /c/f", at(path)); got != "here\n" {
			t.Errorf("%s: %q", path, got)
		}
	}
	if got := f.mount("cat /c", at("/abs/b/f")); got != "here\n" {
		t.Errorf("a file: %q", got)
	}
	for _, path := range []string{"/etc/passwd", "/dangling/x", "/a/b/f/x"} {
		bad := openWith(t, d, Base(t))
		p := bad.sh("cat /c/*")
		p.Mounts = []sandbox.Mount{at(path)}
		if err := bad.root.Run(t.Context(), p); err == nil {
			t.Errorf("%s: mounted: %q", path, bad.out.String())
		}
	}
}

// testCacheAtOnce has several processes prepare and use a cache.
func (s *suite) testCacheAtOnce(t *testing.T) {
	d := s.newDriver(t)
	dir := cacheDir(t, d)
	seed := openWith(t, d, Base(t))
	cache := sandbox.CacheSource{Dir: dir, Path: "/", Seed: sandbox.BindSource{Root: seed.root, Path: "/"}}
	const n = 5
	g, ctx := errgroup.WithContext(t.Context())
	for i := range n {
		f := openWith(t, d, Base(t))
		g.Go(func() error {
			p := f.sh(fmt.Sprintf("ls -d /c/d/sub/c /c/setuid /c/bin/awk >/dev/null; > /c/mine%d; sleep 0.3", i))
			p.Mounts = []sandbox.Mount{writable("/c", cache)}
			if err := f.root.Run(ctx, p); err != nil {
				return fmt.Errorf("%w: %s", err, f.out.String())
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	f := openWith(t, d, Base(t))
	if got := f.mount("ls /c | grep -c mine", writable("/c", cache)); got != "5\n" {
		t.Errorf("got %q, want %d", got, n)
	}
}

// testCacheOtherDriver holds that a cache is one for all drivers with the same state.
func (s *suite) testCacheOtherDriver(t *testing.T) {
	d := s.newDriver(t)
	cache := sandbox.CacheSource{Dir: cacheDir(t, d), Path: "/", Mode: 0o755}
	f, g := openWith(t, d, Base(t)), s.open(t, Base(t))
	f.mount("echo first > /c/x", writable("/c", cache))
	if got := g.mount("cat /c/x", writable("/c", cache)); got != "first\n" {
		t.Errorf("got %q", got)
	}
	p := g.sh("true")
	p.Mounts = []sandbox.Mount{readOnly("/m", sandbox.BindSource{Root: stranger{}, Path: "/"})}
	if err := g.root.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), "another driver") {
		t.Errorf("root of another driver: %v", err)
	}
}

// stranger is a root that no driver knows.
type stranger struct{ sandbox.Root }

// testCacheStubs holds that mounts in a cache may be made by several processes at once: their stubs stay.
func (s *suite) testCacheStubs(t *testing.T) {
	d := s.newDriver(t)
	cache := writable("/d", sandbox.CacheSource{Dir: cacheDir(t, d), Path: "/", Mode: 0o755})
	f := openWith(t, d, Base(t))
	f.settle()
	f.mount("> /d/x/y/f", cache, writable("/d/x/y", sandbox.TmpfsSource{}))
	f.unchanged()
	got := strings.Fields(f.mount("find /d | sort", cache))
	if want := []string{"/d", "/d/x", "/d/x/y"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
