package swap_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/swap"
)

// world is a root filesystem on overlayfs, with directories of its lower layer and a mount.
type world struct {
	*testing.T
	dir  string
	spec swap.Spec
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, dir: t.TempDir()}
	for _, name := range []string{"lower/bin", "lower/etc/sub", "lower/var/lib", "upper/opt/deep", "work", "root"} {
		w.must(os.MkdirAll(filepath.Join(w.dir, name), 0o755))
	}
	w.write("lower/bin/sh", "container's")
	w.write("lower/etc/passwd", "container's")
	w.write("lower/etc/hosts", "image's")
	w.write("lower/etc/sub/x", "container's")
	w.write("lower/var/lib/x", "container's")
	w.write("upper/opt/deep/x", "container's")
	w.write("mounted", "mounted")
	w.must(os.Chmod(filepath.Join(w.dir, "lower/var"), 0o1711))
	w.must(os.Lchown(filepath.Join(w.dir, "lower/bin"), 3, 4))
	root := w.path("root")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work,redirect_dir=off", w.dir)
	w.must(unix.Mount("overlay", root, "overlay", 0, options))
	t.Cleanup(func() { w.must(unix.Unmount(root, unix.MNT_DETACH)) })
	w.must(unix.Mount(w.path("mounted"), w.path("root/etc/hosts"), "", unix.MS_BIND, ""))
	for _, name := range []string{"root/state", "root/keep/this", "root/volume", "volume/kept", "volume/other", "root/state/stage/etc", "root/state/stage/new", "root/state/stage/bin"} {
		w.must(os.MkdirAll(w.path(name), 0o755))
	}
	w.must(unix.Mount(w.path("volume"), w.path("root/volume"), "", unix.MS_BIND, ""))
	w.write("root/volume/kept/f", "kept")
	w.write("root/volume/other/f", "beside it")
	w.write("root/keep/this/f", "kept")
	w.write("root/keep/other", "container's")
	w.write("root/state/stage/etc/passwd", "stage's")
	w.write("root/state/stage/etc/hosts", "stage's")
	w.write("root/state/stage/bin/sh", "stage's")
	w.write("root/state/stage/new/f", "stage's")
	w.must(os.Symlink("new", w.path("root/state/stage/var")))
	w.must(os.Chmod(w.path("root/state/stage/etc"), 0o700))
	w.spec = swap.Spec{Root: root, State: w.path("root/state"), Stage: w.path("root/state/stage"), Keep: []string{w.path("root/keep/this"), w.path("root/volume/kept")}}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) write(name, text string) { w.must(os.WriteFile(w.path(name), []byte(text), 0o644)) }

// list describes everything in the root, but not what is in the state directory.
func (w *world) list() string {
	var out strings.Builder
	w.must(filepath.WalkDir(w.path("root"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, w.path("root"))
		if name == "/state" {
			return fs.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s %o %d:%d", name, st.Mode, st.Uid, st.Gid)
		if d.IsDir() {
			fmt.Fprintf(&out, " %v", st.Mtim)
		} else if data, err := os.ReadFile(path); err == nil {
			fmt.Fprintf(&out, " %s", data)
		}
		out.WriteString("\n")
		return nil
	}))
	return out.String()
}

func (w *world) read(name string) string {
	data, err := os.ReadFile(w.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "none"
	}
	w.must(err)
	return string(data)
}

func TestExchange(t *testing.T) {
	w := newWorld(t)
	before := w.list()
	for range 2 { // the second time there is nothing of the lower layer left
		x, err := swap.In(w.spec)
		w.must(err)
		for name, want := range map[string]string{
			"bin/sh": "stage's", "new/f": "stage's", "etc/passwd": "stage's", "etc/hosts": "mounted", "keep/this/f": "kept",
			"keep/other": "none", "etc/sub/x": "none", "opt/deep/x": "none", "volume/other/f": "beside it", "var/f": "stage's",
		} {
			if got := w.read("root/" + name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if fi, err := os.Stat(w.path("root/etc")); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("etc: %v, %v", fi.Mode(), err)
		}
		w.write("root/etc/made", "made")
		w.write("root/etc/hosts", "spoilt")
		w.write("root/top", "made")
		w.must(os.RemoveAll(w.path("root/new")))
		w.must(os.Chmod(w.path("root/etc"), 0o710))
		_, err = x.Out()
		w.must(err)
		if after := w.list(); after != before {
			t.Errorf("afterwards\n%s\nwant\n%s", after, before)
		}
		stage := "root/state/stage/"
		for name, want := range map[string]string{"etc/made": "made", "etc/hosts": "stage's", "top": "made", "new/f": "none", "bin/sh": "stage's"} {
			if got := w.read(stage + name); got != want {
				t.Errorf("in the stage, %s is %q, want %q", name, got, want)
			}
		}
		if fi, err := os.Stat(w.path(stage + "etc")); err != nil || fi.Mode().Perm() != 0o710 {
			t.Errorf("the stage's etc: %v, %v", fi.Mode(), err)
		}
		w.must(os.Chmod(w.path(stage+"etc"), 0o700))
		w.must(os.MkdirAll(w.path(stage+"new"), 0o755))
		w.write(stage+"new/f", "stage's")
	}
}

// TestHidden holds that no directory of the stage is silently replaced by one that has to stay.
func TestHidden(t *testing.T) {
	for _, name := range []string{"volume", "keep/this"} {
		w := newWorld(t)
		w.must(os.MkdirAll(w.path("root/state/stage/"+name), 0o755))
		before := w.list()
		x, err := swap.In(w.spec)
		if err == nil || !strings.Contains(err.Error(), `"/`+name+`"`) {
			t.Errorf("%s: error %v", name, err)
		}
		_, err = x.Out()
		w.must(err)
		if after := w.list(); after != before {
			t.Errorf("%s: afterwards\n%s\nwant\n%s", name, after, before)
		}
		w.spec.Cover = []string{w.path("root/" + name)}
		x, err = swap.In(w.spec)
		w.must(err)
		_, err = x.Out()
		w.must(err)
	}
}

// TestRecover has an exchange killed at each line of its journal, also in the middle of one, and another process undo it.
func TestRecover(t *testing.T) {
	var limits []int64
	first := newWorld(t)
	x, err := swap.In(first.spec)
	first.must(err)
	for i, b := range []byte(first.read("root/state/journal")) {
		if b == '\n' {
			limits = append(limits, int64(i-2), int64(i+1))
		}
	}
	limits = append(limits, limits[len(limits)-1]+3)
	_, err = x.Out()
	first.must(err)
	if len(limits) < 12 {
		t.Fatalf("the journal has %d lines only", len(limits)/2)
	}
	for _, limit := range limits {
		w := newWorld(t)
		before := w.list()
		w.dieAt(limit)
		w.must(swap.Recover(w.spec.State))
		if after := w.list(); after != before {
			t.Errorf("killed at byte %d: afterwards\n%s\nwant\n%s", limit, after, before)
		}
		w.must(swap.Recover(w.spec.State)) // nothing more to do
		if left, err := os.ReadDir(w.path("root/state/aside")); err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) > 0 {
			t.Errorf("killed at byte %d: left %v, %v", limit, left, err)
		}
	}
}

const child = "swap-test-child"

// dieAt has a process do an exchange, and undo it, that the kernel ends when its journal grows beyond limit.
func (w *world) dieAt(limit int64) {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), "/proc/self/exe")
	cmd.Args = append([]string{child, strconv.FormatInt(limit, 10), w.spec.Root, w.spec.State, w.spec.Stage}, w.spec.Keep...)
	if out, err := cmd.CombinedOutput(); err == nil {
		w.Fatalf("the process was not killed: %s", out)
	}
}

func TestMain(m *testing.M) {
	if os.Args[0] == child {
		exchangeWithin(os.Args[1:])
	}
	os.Exit(m.Run())
}

func exchangeWithin(args []string) {
	limit, err := strconv.ParseUint(args[0], 10, 64)
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit})
	}
	if err != nil {
		panic(err)
	}
	x, err := swap.In(swap.Spec{Root: args[1], State: args[2], Stage: args[3], Keep: args[4:]})
	if err == nil {
		_, err = x.Out()
	}
	if err != nil {
		os.Exit(1) // as good as killed: what the journal cannot say was not done
	}
	os.Exit(0)
}
