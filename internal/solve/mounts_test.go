package solve

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// giver gives what it holds, and counts what is taken of its caches.
type giver struct {
	secrets map[string]string

	mu    sync.Mutex
	taken map[string]int // caches in use
	locks map[string]chan struct{}
}

func (g *giver) Cache(ctx context.Context, id, sharing string) (string, func() error, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.taken == nil {
		g.taken, g.locks = map[string]int{}, map[string]chan struct{}{}
	}
	if sharing == "locked" {
		if g.locks[id] == nil {
			g.locks[id] = make(chan struct{}, 1)
		}
		lock := g.locks[id]
		g.mu.Unlock()
		select {
		case lock <- struct{}{}:
		case <-ctx.Done():
			g.mu.Lock()
			return "", nil, context.Cause(ctx)
		}
		g.mu.Lock()
	}
	g.taken[id]++
	return "/caches/" + id, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.taken[id]--
		if sharing == "locked" {
			<-g.locks[id]
		}
		return nil
	}, nil
}

func (g *giver) Secret(_ context.Context, id string) ([]byte, error) {
	if s, ok := g.secrets[id]; ok {
		return []byte(s), nil
	}
	return nil, fs.ErrNotExist
}

func (g *giver) Agent(context.Context, string) (string, func() error, error) {
	return "", nil, fs.ErrNotExist
}

func (g *giver) Device(context.Context, string) (Device, error) { return Device{}, fs.ErrNotExist }

// inUse lists the caches that were not given back.
func (g *giver) inUse() (ids []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, n := range g.taken {
		if n != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestMountOfContextIsAnInput(t *testing.T) {
	w := newWorld(t, map[string]string{"src/a": "1", "other": "1"})
	text := "FROM scratch\nRUN --mount=source=src,target=/src put /out x\n"
	w.mustBuild(text)
	w.write("other", "2")
	if _, ran := w.mustBuild(text); len(ran) != 0 {
		t.Errorf("ran %q though nothing that is mounted has changed", ran)
	}
	w.write("src/a", "2")
	if _, ran := w.mustBuild(text); len(ran) != 1 {
		t.Errorf("ran %q though what is mounted has changed", ran)
	}
	p := w.driver.ran[len(w.driver.ran)-1]
	if len(p.Mounts) != 1 || p.Mounts[0].Target != "/src" || !p.Mounts[0].ReadOnly {
		t.Fatalf("mounts are %+v", p.Mounts)
	}
	bind := p.Mounts[0].Source.(sandbox.BindSource)
	tree, err := rootfs.Of(t.Context(), bind.Root.(*scriptRoot).layers, rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if data, err := fs.ReadFile(tree, strings.TrimPrefix(bind.Path, "/")+"/a"); err != nil || string(data) != "2" {
		t.Errorf("what is mounted holds %q, %v", data, err)
	}
	if w.driver.open() != 0 {
		t.Errorf("%d roots are still open", w.driver.open())
	}
}

func TestCachedMountOfStageDoesNotTouchIt(t *testing.T) {
	w := newWorld(t, nil)
	text := "FROM scratch AS b\nRUN put /out x\nFROM scratch\nRUN --mount=from=b,target=/b put /o y\nRUN --mount=from=b,target=/b,rw put /p y\n"
	if _, ran := w.mustBuild(text); len(ran) != 3 {
		t.Errorf("ran %q, want all", ran)
	}
	opened := w.driver.opened
	if _, ran := w.mustBuild(text); len(ran) != 0 || w.driver.opened != opened {
		t.Errorf("ran %q and opened %d roots", ran, w.driver.opened-opened)
	}
	if w.driver.open() != 0 {
		t.Errorf("%d roots are still open", w.driver.open())
	}
}

// TestStageRebuiltToSameFilesLetsItsMountHit holds that what counts in the end are the files that are mounted.
func TestStageRebuiltToSameFilesLetsItsMountHit(t *testing.T) {
	w := newWorld(t, nil)
	second := "FROM scratch\nRUN --mount=from=b,source=out,target=/b put /o y\n"
	w.mustBuild("FROM scratch AS b\nRUN put /out x\n" + second)
	_, ran := w.mustBuild("FROM scratch AS b\nRUN counter /noise\nRUN put /out x\n" + second)
	if slices.ContainsFunc(ran, func(s string) bool { return strings.Contains(s, "--mount") }) {
		t.Errorf("ran %q though the mounted file is the same", ran)
	}
}

func TestMissingMountNamesItsLine(t *testing.T) {
	w := newWorld(t, map[string]string{"a": "1"})
	for text, want := range map[string]string{
		"FROM scratch\nRUN --mount=source=bad/../file,target=/x put /o y\n":                    `Dockerfile:2: RUN --mount=source=bad/../file,target=/x put /o y: "/file": not found`,
		"FROM scratch AS b\nFROM scratch\nRUN --mount=from=b,source=file,target=/x put /o y\n": `"/file": not found`,
		"FROM scratch\nRUN --mount=type=secret,id=token,required put /o y\n":                   "secret token: not found",
		"FROM scratch\nRUN --mount=type=ssh,required put /o y\n":                               "ssh agent default: not found",
	} {
		if _, _, err := w.build(t.Context(), text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %q", text, err, want)
		}
	}
}

// TestSecretIsNoInput holds that another secret is no reason to run a step again, and that processes get it.
func TestSecretIsNoInput(t *testing.T) {
	w := newWorld(t, nil)
	g := &giver{secrets: map[string]string{"token": "one"}}
	w.mounts = g
	text := "FROM scratch\nRUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=none put /o y\n"
	w.mustBuild(text)
	p := w.driver.ran[0]
	if len(p.Mounts) != 1 || p.Mounts[0].Target != "/run/secrets/token" || string(p.Mounts[0].Source.(sandbox.FileSource).Data) != "one" {
		t.Errorf("mounts are %+v", p.Mounts)
	}
	if !slices.Contains(p.Env, "TOKEN=one") {
		t.Errorf("environment is %q", p.Env)
	}
	g.secrets["token"] = "two"
	if _, ran := w.mustBuild(text); len(ran) != 0 {
		t.Errorf("ran %q for another secret", ran)
	}
}

// TestLockedCachesAreTakenInOneOrder holds that stages that lock the same caches do not wait for each other for ever, nor a
// process for itself.
func TestLockedCachesAreTakenInOneOrder(t *testing.T) {
	w := newWorld(t, nil)
	g := &giver{}
	w.mounts = g
	lock := func(id, target string) string {
		return "--mount=type=cache,sharing=locked,id=" + id + ",target=" + target + " "
	}
	var text strings.Builder
	for _, s := range []string{"a", "b", "c", "d"} {
		text.WriteString("FROM scratch AS " + s + "\n")
		for range 5 {
			text.WriteString("RUN " + lock("x", "/1") + lock("y", "/2") + "counter /o\n")
			text.WriteString("RUN " + lock("y", "/1") + lock("x", "/2") + lock("x", "/3") + "counter /o\n")
		}
	}
	text.WriteString("FROM scratch\nCOPY --from=a o 1\nCOPY --from=b o 2\nCOPY --from=c o 3\nCOPY --from=d o 4\n")
	w.mustBuild(text.String())
	if ids := g.inUse(); ids != nil {
		t.Errorf("caches %q were not given back", ids)
	}
}

func TestFailedProcessGivesBackItsCaches(t *testing.T) {
	w := newWorld(t, nil)
	g := &giver{}
	w.mounts = g
	_, _, err := w.build(t.Context(), "FROM scratch\nRUN --mount=type=cache,target=/c fail 3\n")
	var exit *sandbox.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("error is %v", err)
	}
	if ids := g.inUse(); ids != nil {
		t.Errorf("caches %q were not given back", ids)
	}
}

// remote is a Source of one file.
type remote struct {
	key     string
	tree    rootfs.Tree
	fetched int
}

func (r *remote) Key(context.Context) (string, error) { return r.key, nil }

func (r *remote) Tree(context.Context) (rootfs.Tree, error) {
	r.fetched++
	return r.tree, nil
}

func TestCachedAddOfURLFetchesNothing(t *testing.T) {
	w := newWorld(t, map[string]string{"f": "1", "local": "1"})
	tree, err := rootfs.Dir(w.context)
	if err != nil {
		t.Fatal(err)
	}
	r := &remote{key: "one", tree: tree}
	w.sources = map[string]Source{"http://host/f": r}
	text := "FROM scratch\nADD http://host/f local /\n"
	first, _ := w.mustBuild(text)
	if r.fetched != 1 {
		t.Errorf("fetched %d times, want once", r.fetched)
	}
	second, ran := w.mustBuild(text)
	if r.fetched != 1 || len(ran) != 0 {
		t.Errorf("fetched %d times, and ran %q", r.fetched, ran)
	}
	if !slices.Equal(digests(t, first), digests(t, second)) {
		t.Error("layers differ between first and cached build")
	}
	r.key = "two"
	if _, _ = w.mustBuild(text); r.fetched != 2 {
		t.Errorf("fetched %d times though the source has changed", r.fetched)
	}
	w.write("local", "2")
	if _, ran := w.mustBuild(text); len(ran) == 0 {
		t.Error("the file beside the URL is no input")
	}
}
