package sandboxtest

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

func (s *suite) testSharedCaches(t *testing.T) {
	t.Run("round trip", s.testCacheRoundTrip)
	t.Run("increments", s.testCacheIncrements)
	t.Run("merge", s.testCacheMerge)
	t.Run("bad layers", s.testCacheBadLayers)
	t.Run("unsteady", s.testCacheUnsteady)
	t.Run("size", s.testCacheSize)
}

// sharedCache is a cache of a driver, and a root to use it in.
type sharedCache struct {
	*fixture
	dir string
	d   sandbox.CacheSharer
}

func (s *suite) sharedCache(t *testing.T) *sharedCache {
	t.Helper()
	d := s.newDriver(t).(sandbox.CacheSharer)
	return &sharedCache{openWith(t, d, Base(t)), cacheDir(t, d), d}
}

func (c *sharedCache) sh(script string) string {
	c.Helper()
	return c.mount("cd /c; "+script, writable("/c", sandbox.CacheSource{Dir: c.dir, Path: "/", UID: 7, GID: 8, Mode: 0o751}))
}

// save makes a layer of what has changed since layers, nil when nothing has, and remembers that it did.
func (c *sharedCache) save(layers ...v1.Layer) *snapshot.Blob {
	c.Helper()
	return c.read(sandbox.ReadCacheOptions{Layers: layers})
}

func (c *sharedCache) read(o sandbox.ReadCacheOptions) *snapshot.Blob {
	c.Helper()
	r, err := c.d.ReadCache(c.Context(), c.dir, o)
	if err != nil {
		c.Fatal(err)
	}
	blob, err := snapshot.Write(c.Context(), r.Changes(), snapshot.Options{Dir: c.TempDir()})
	if err != nil {
		c.Fatal(err)
	}
	if err := errors.Join(r.Remember([]byte("saved")), r.Close()); err != nil {
		c.Fatal(err)
	}
	return blob
}

// restored is another driver's cache with the files of layers.
func (s *suite) restored(t *testing.T, layers ...v1.Layer) *sharedCache {
	t.Helper()
	c := s.sharedCache(t)
	if err := c.d.FillCache(t.Context(), c.dir, layers, []byte("filled")); err != nil {
		t.Fatal(err)
	}
	if ok, err := c.d.CachePrepared(c.dir); !ok || err != nil {
		t.Errorf("prepared: %v, %v", ok, err)
	}
	return c
}

func (c *sharedCache) note(want string) {
	c.Helper()
	if got, err := c.d.CacheNote(c.dir); string(got) != want || err != nil {
		c.Errorf("note %q, %v, want %q", got, err, want)
	}
}

// listCache shows all that a layer says of the files in a cache.
const listCache = "find . | sort | xargs stat -c '%N %A %u:%g %h %s %y'; cat dir/f h2"

func (s *suite) testCacheRoundTrip(t *testing.T) {
	c := s.sharedCache(t)
	c.note("")
	c.sh("mkdir -m 2770 dir; echo f > dir/f; echo h > h1; ln h1 h2; ln -s dir/f l; mkfifo -m 622 p; echo x > s; chmod 4755 s; mkdir empty")
	if !s.o.OneOwner {
		c.sh("chown 1000:44 dir/f; chown -h 9:9 l")
	}
	c.sh("touch -d @1500000000 dir/f dir .")
	if owners, err := c.d.CacheOwners(); owners == s.o.OneOwner || err != nil {
		t.Errorf("owners are kept: %v, %v", owners, err)
	}
	want := c.sh(listCache)
	layer := c.save()
	c.note("saved")
	r := s.restored(t, layer)
	r.note("filled")
	if got := r.sh(listCache); got != want {
		t.Errorf("restored\n%s, want\n%s", got, want)
	}
	for _, same := range []*sharedCache{c, r} {
		if blob := same.save(layer); blob != nil {
			t.Errorf("nothing has changed, but %v", names(blob))
		}
	}
}

func names(b *snapshot.Blob) (list []string) {
	if b == nil {
		return nil
	}
	for r := range b.Index.All() {
		list = append(list, r.Header.Name)
	}
	return list
}

// testCacheIncrements holds that only what has changed is saved, however that was done.
func (s *suite) testCacheIncrements(t *testing.T) {
	first := s.sharedCache(t)
	first.sh("mkdir dir old; echo 1 > dir/f; echo 2 > dir/g; echo 3 > dir/same; echo 4 > gone; echo 5 > old/x; echo h > h1; ln h1 h2; echo 9 > mode")
	base := first.save()
	c := s.restored(t, base)
	for _, step := range []struct {
		trap, script string
		want         []string
	}{
		{"only new times", "touch dir/same dir/f; touch -d @1 dir", nil},
		{"written with the same size and time", "touch -r dir/g t; echo 6 > dir/g; touch -r t dir/g; rm t", []string{"data", "data/dir", "data/dir/g"}},
		{"written again as it was", "echo 6 > dir/g", nil},
		{"deleted", "rm gone", []string{"data", "data/.wh.gone"}},
		{"a directory becomes a file", "rm -r old; echo 7 > old", []string{"data", "data/old"}},
		{"another mode", "chmod 600 mode", []string{"data", "data/mode"}},
		{"another name", "ln h1 h3", []string{"data", "data/h1", "data/h2", "data/h3"}},
		{"mode of the cache", "chmod 700 .", []string{"data"}},
	} {
		c.sh(step.script)
		layers := []v1.Layer{base}
		blob := c.save(layers...)
		if got := names(blob); !slices.Equal(got, step.want) {
			t.Errorf("%s: saved %q, want %q", step.trap, got, step.want)
		}
		if blob == nil {
			continue
		}
		// A layer of its own for each step, as the next ones are compared with it.
		next := s.restored(t, base, blob)
		want := c.sh("find . | sort | xargs stat -c '%N %A %u:%g %h %s'; cat dir/g h2")
		if got := next.sh("find . | sort | xargs stat -c '%N %A %u:%g %h %s'; cat dir/g h2"); got != want {
			t.Errorf("%s: restored\n%s, want\n%s", step.trap, got, want)
		}
		base, c = next.save(), next
	}
}

// testCacheMerge holds that a layer that takes the place of several has what they did together, and no more.
func (s *suite) testCacheMerge(t *testing.T) {
	c := s.sharedCache(t)
	c.sh("mkdir -p d/e old again; echo 1 > d/e/f; echo 1 > d/same; echo 1 > gone; echo 1 > old/x; echo 1 > again/x; echo h > h1; ln h1 h2; echo 1 > t")
	layers := []v1.Layer{c.save()}
	for _, script := range []string{
		"echo 2 > d/e/f; echo 2 > brief; mkdir new; echo 2 > new/f; rm -r again; rm gone",
		"rm -r old brief; echo 3 > old; mkdir again; echo 3 > again/y; chmod 700 d",
		"echo 4 > new/g; ln h1 h3; touch t",
	} {
		c.sh(script)
		layers = append(layers, c.save(layers...))
	}
	c.sh("echo 5 > last; rm new/f")
	const list = "find . | sort | xargs stat -c '%N %A %u:%g %h'; cat d/e/f new/g again/y last h3"
	want := c.sh(list)
	merged := c.read(sandbox.ReadCacheOptions{Layers: layers, Merge: 3})
	wantNames := []string{
		"data", "data/again", "data/again/.wh.x", "data/again/y", "data/d", "data/d/e", "data/d/e/f", "data/.wh.gone", "data/h1", "data/h2", "data/h3",
		"data/last", "data/new", "data/new/g", "data/old",
	}
	if got := names(merged); !slices.Equal(got, wantNames) {
		t.Errorf("merged has\n%q, want\n%q", got, wantNames)
	}
	r := s.restored(t, layers[0], merged)
	if got := r.sh(list); got != want {
		t.Errorf("restored\n%s, want\n%s", got, want)
	}
	for _, same := range []*sharedCache{c, r} {
		if blob := same.save(layers[0], merged); blob != nil {
			t.Errorf("nothing has changed, but %q", names(blob))
		}
	}
	if _, err := c.d.ReadCache(t.Context(), c.dir, sandbox.ReadCacheOptions{Layers: layers[:1], Merge: 1}); err == nil {
		t.Error("merged the lowest layer")
	}
}

// testCacheBadLayers holds that nothing is left of layers that are not what they should be.
func (s *suite) testCacheBadLayers(t *testing.T) {
	good := Layer(t, Dir("data", 0o755), File("data/f", 0o644, "x"))
	for trap, layers := range map[string][]v1.Layer{
		"other bytes":     {good, liar{Layer(t, Dir("data", 0o755)), good}},
		"nothing in it":   {Layer(t, Dir("other", 0o755))},
		"a link":          {Layer(t, Symlink("data", "/etc"))},
		"a file":          {Layer(t, File("data", 0o644, "x"))},
		"no bytes at all": {good, lost{good}},
	} {
		c := s.sharedCache(t)
		if err := c.d.FillCache(t.Context(), c.dir, layers, nil); err == nil {
			t.Errorf("%s: filled", trap)
		}
		if ok, err := c.d.CachePrepared(c.dir); ok || err != nil {
			t.Errorf("%s: prepared: %v, %v", trap, ok, err)
		}
		if got := c.sh("ls -A"); got != "" {
			t.Errorf("%s: begins with %q", trap, got)
		}
	}
}

// liar is a layer with the bytes of another.
type liar struct {
	v1.Layer
	other v1.Layer
}

func (l liar) Uncompressed() (io.ReadCloser, error) { return l.other.Uncompressed() }

// lost is a layer whose bytes nobody has.
type lost struct{ v1.Layer }

func (lost) Uncompressed() (io.ReadCloser, error) { return nil, errors.New("lost") }

// testCacheUnsteady holds that what is being written is not saved half.
func (s *suite) testCacheUnsteady(t *testing.T) {
	for trap, script := range map[string]string{
		"grows": "echo more >> b", "shrinks": "> b", "goes away": "rm b", "is written over": "printf y | dd of=a conv=notrunc",
	} {
		c := s.sharedCache(t)
		c.sh("echo a > a; yes | head -c 1000000 > b")
		r, err := c.d.ReadCache(t.Context(), c.dir, sandbox.ReadCacheOptions{})
		if err != nil {
			t.Fatal(err)
		}
		err = nil
		for change, failed := range r.Changes() {
			if err = failed; err == nil && change.Header.Name == "data/a" {
				c.sh(script)
			}
			if err == nil && change.Open != nil {
				body, openErr := change.Open()
				if err = openErr; err == nil {
					_, err = io.Copy(io.Discard, body)
				}
			}
			if err != nil {
				break
			}
		}
		if err == nil {
			t.Errorf("%s: read", trap)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		c.note("")
	}
}

func (s *suite) testCacheSize(t *testing.T) {
	c := s.sharedCache(t)
	c.sh("echo 12345 > a; echo 1234 > b")
	for limit, want := range map[int64]bool{0: true, 11: true, 10: false} {
		r, err := c.d.ReadCache(t.Context(), c.dir, sandbox.ReadCacheOptions{MaxSize: limit})
		if err != nil {
			t.Fatal(err)
		}
		_, err = snapshot.Write(t.Context(), r.Changes(), snapshot.Options{Dir: t.TempDir()})
		var size *sandbox.CacheSizeError
		if tooLarge := errors.As(err, &size); tooLarge == want || tooLarge && (size.Size != 11 || size.Max != limit) {
			t.Errorf("limit %d: %v", limit, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if left := c.sh("ls -A"); strings.Contains(left, "record") {
		t.Errorf("in the cache: %q", left)
	}
}
