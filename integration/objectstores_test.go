package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/cache/blob/blobtest"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

// objectStore is a place for caches that is no registry.
type objectStore struct {
	// proxy stands before the server; nil for a directory.
	proxy *registrytest.Proxy
	// from and to are values of --cache-from and --cache-to for a folder of it.
	from, to func(folder string) string
}

// objectStores start a server each.
func objectStores() map[string]func(*testing.T) objectStore {
	bucket := func(host func(testing.TB) string, words func(host string) string) func(*testing.T) objectStore {
		return func(t *testing.T) objectStore {
			p := registrytest.Before(t, host(t))
			value := func(folder string) string { return words(p.Host) + ",prefix=" + folder + "/" }
			return objectStore{proxy: p, from: value, to: value}
		}
	}
	return map[string]func(*testing.T) objectStore{
		"s3": bucket(blobtest.S3, func(host string) string {
			return "type=s3,region=us-east-1,use_path_style=true,bucket=" + blobtest.Container + ",access_key_id=" + blobtest.S3AccessKey +
				",secret_access_key=" + blobtest.S3SecretKey + ",endpoint_url=http://" + host
		}),
		"azblob": bucket(blobtest.Azure, func(host string) string {
			return "type=azblob,account_url=http://" + host + "/" + blobtest.AzureAccount + ",secret_access_key=" + blobtest.AzureKey
		}),
		"gcs": bucket(blobtest.GCS, func(host string) string {
			return "type=gcs,bucket=" + blobtest.Container + ",endpoint_url=http://" + host
		}),
		"local": func(t *testing.T) objectStore {
			dir := t.TempDir()
			value := func(option string) func(string) string {
				return func(folder string) string { return "type=local," + option + "=" + filepath.Join(dir, folder) }
			}
			return objectStore{from: value("src"), to: value("dest")}
		},
	}
}

// stagesWithMount has two stages, with everything that a step can be, and a directory that outlives a step.
const stagesWithMount = `FROM {{base}} AS build
WORKDIR /work
COPY app app
RUN --mount=type=cache,id=kept,target=/kept ls /kept; cp app /kept/; echo $RANDOM > /result; head -c 300000 /dev/urandom > /noise
RUN true
FROM {{base}}
COPY --from=build /result /noise /out/
COPY --link app /app
RUN cat /out/result /app > /both
CMD ["x"]
`

// stagesOnALayer needs the bytes of a layer that is in the cache when app has changed.
const stagesOnALayer = `FROM {{base}} AS build
RUN head -c 300000 /dev/urandom > /noise
COPY app app
RUN --mount=type=cache,id=kept,target=/kept cp app /kept/; cat /app > /result
FROM {{base}}
COPY --from=build /result /noise /out/
COPY --link app /app
RUN cat /out/result /app > /both
`

// stepsStarted lists the steps that were begun, of the output of a build with --progress json.
func stepsStarted(t *testing.T, out string) (names []string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var e struct{ Kind, Name string }
		if json.Unmarshal([]byte(line), &e) == nil && e.Kind == "step-started" && !strings.Contains(e.Name, "FROM") {
			names = append(names, e.Name)
		}
	}
	return names
}

// TestObjectStoreOnAnEmptyMachine builds twice with nothing in common but a bucket, or a directory: no step runs the second
// time, and the image is the same. What is there can be listed and removed.
func TestObjectStoreOnAnEmptyMachine(t *testing.T) {
	for name, open := range objectStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, map[string]string{"app": "one", "Dockerfile": strings.ReplaceAll(stagesWithMount, "{{base}}", busybox(t))})
			store := open(t)
			steps, mounts := "steps", "mounts"
			first, second := repo(t, "first"), repo(t, "second")
			s.mustBuild("--destination", first, "--cache-to", store.to(steps), "--cache-mounts-to", store.to(mounts))

			s.emptyMachine()
			shared := []string{"--progress", "json", "--cache-from", store.from(steps), "--cache-mounts-from", store.from(mounts)}
			out := s.mustBuild(append(shared, "--destination", second)...)
			if ran := stepsStarted(t, out); len(ran) != 0 {
				t.Errorf("steps that ran: %q", ran)
			}
			quiet(t, out)
			if a, b := digestOf(t, first), digestOf(t, second); a != b {
				t.Errorf("the image from the cache is %v, not %v", b, a)
			}

			s.emptyMachine()
			s.lay(map[string]string{"app": "two"})
			out = s.mustBuild(append(shared, "--destination", second)...)
			said(t, out, `"text":"app\n"`) // what the first job left
			if ran := stepsStarted(t, out); len(ran) != 6 {
				t.Errorf("steps that ran: %q, want all but WORKDIR and RUN true", ran)
			}
			quiet(t, out)
			if got := files(t, pull(t.Context(), t, second)); got["app"] != "two" || !strings.HasSuffix(got["both"], "two") {
				t.Errorf("the image has %q and %q", got["app"], got["both"])
			}
			keeps(t, s, store.from(steps))
			keeps(t, s, store.from(mounts))
		})
	}
}

// quiet checks that nothing was warned of.
func quiet(t *testing.T, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		if strings.Contains(line, `"warning"`) || strings.Contains(line, "warning:") {
			t.Errorf("warned: %s", line)
		}
	}
}

// keeps checks that a place can be listed, looked into, and emptied.
func keeps(t *testing.T, s *site, place string) {
	t.Helper()
	command := func(args ...string) string {
		out, err := s.start(append([]string{"cache"}, args...)...).wait()
		if err != nil {
			t.Error(err)
		}
		return out
	}
	type item struct{ Key, Step, Digest string }
	list := func() (items []item) {
		if err := json.Unmarshal([]byte(command("ls", "--format", "json", place)), &items); err != nil {
			t.Error(err)
		}
		return items
	}
	items := list()
	var one item
	for _, it := range items {
		if it.Digest != "" {
			one = it
		}
	}
	if one.Key == "" || one.Step == "" {
		t.Fatalf("no step with a layer among %+v", items)
	}
	if out := command("inspect", place, one.Key[:12]); !strings.Contains(out, one.Digest) || !strings.Contains(out, one.Step) {
		t.Errorf("inspect %s: %s", one.Key, out)
	}
	if command("prune", "--keep-for", "1h", place); len(list()) != len(items) {
		t.Error("what is younger than was said is gone")
	}
	if command("prune", place); len(list()) != 0 {
		t.Errorf("after all was removed there are %v", list())
	}
}

// bad is a bad day of an object store.
type bad struct {
	fault func() registrytest.Fault
	say   string // what is told of it
	empty bool   // also when there is nothing in the store yet
}

func badDays() map[string]bad {
	return map[string]bad{
		"refuses": {func() registrytest.Fault { return registrytest.Status(http.StatusForbidden) }, "cache cannot be used", true},
		"goes-away-in-the-middle": {func() registrytest.Fault {
			var n atomic.Int32
			return func(*http.Request, http.Handler) http.Handler {
				if n.Add(1) <= 6 {
					return nil
				}
				return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			}
		}, "cache", true},
		"has-half-of-a-layer": {func() registrytest.Fault {
			half := registrytest.Truncate(100_000)
			return func(r *http.Request, next http.Handler) http.Handler {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/filled-true") || !strings.Contains(r.URL.Path, "blobs") {
					return nil
				}
				return half(r, next)
			}
		}, "made anew", false},
	}
}

// TestObjectStoreInTrouble holds that whatever an object store does is a warning, and the image what it should be.
func TestObjectStoreInTrouble(t *testing.T) {
	for name, open := range objectStores() {
		if name == "local" {
			continue // its trouble is that of a file system: see TestCacheInTrouble
		}
		for trap, day := range badDays() {
			t.Run(name+"-"+trap, func(t *testing.T) {
				t.Parallel()
				store := open(t)
				for _, filled := range []bool{false, true} {
					if filled || day.empty {
						day.survived(t, store, filled)
					}
				}
			})
		}
	}
}

// survived builds on a bad day.
func (b bad) survived(t *testing.T, store objectStore, filled bool) {
	t.Helper()
	s := newSite(t, map[string]string{"app": "one", "Dockerfile": strings.ReplaceAll(stagesOnALayer, "{{base}}", busybox(t))})
	folder := fmt.Sprint("filled-", filled)
	args := []string{"--progress", "json", "--cache-from", store.from(folder), "--cache-to", store.to(folder),
		"--cache-mounts-from", store.from("mounts"), "--cache-mounts-to", store.to("mounts")}
	app := "one"
	if filled {
		s.mustBuild(append(args, "--no-push")...)
		s.emptyMachine()
		app = "two"
		s.lay(map[string]string{"app": app})
	}
	store.proxy.Inject(b.fault())
	out := s.mustBuild(append(args, "--destination", repo(t, folder))...)
	store.proxy.Heal()
	if !strings.Contains(out, b.say) {
		t.Errorf("filled %v: nothing says %q:\n%s", filled, b.say, out)
	}
	// Three of looking up, three of putting, one of each for mounts.
	if n := strings.Count(out, `"warning"`); n == 0 || n > 9 {
		t.Errorf("filled %v: %d warnings of one trouble:\n%s", filled, n, out)
	}
	got := files(t, pull(t.Context(), t, repo(t, folder)))
	if got["app"] != app || got["both"] != app+app || got["out/noise"] == "" {
		t.Errorf("filled %v: the image has %q and %q", filled, got["app"], got["both"])
	}
	s.clean()
}
