// Package integration builds whole images with gobuild against a real registry, and asks BuildKit, which defines what
// is correct, to build the same. See internal/casefile for how cases are written.
package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// selfCheck builds with BuildKit on both sides: whatever then differs is a fault of a case or of the comparison.
var selfCheck = flag.Bool("selfcheck", false, "compare BuildKit with itself")

var program = flag.String("gobuild", "", "program to test instead of one built from the sources")

var world = &parkedWorld{}

func TestMain(m *testing.M) {
	flag.Parse()
	// Cases say which modes their files have.
	unix.Umask(0o022)
	dir, err := os.MkdirTemp("", "gobuild-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Some tests run the program as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	world.dir = dir
	// Layers have whole seconds.
	world.since = time.Now().Truncate(time.Second)
	code := m.Run()
	if err := world.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// parkedWorld holds the parts that tests share. Each is started by the first test that asks for it.
type parkedWorld struct {
	dir   string
	since time.Time // when no build had begun
	mu    sync.Mutex
	stops []func() error

	registry part[*parts.Registry]
	buildkit part[*parts.BuildKit]
	gobuild  part[string]
	tally    part[string]
	web      part[*parts.Web]
	agent    part[*parts.Agent]
	docker   part[*parts.Docker]
	box      part[string] // an image that containers are made of, and ours
	official part[images]
	bases    [2]part[string]
	oracles  map[string]*part[parts.Job] // cases that BuildKit has built, by name; under mu
}

// part is a value that is made once. A failure is remembered, so that it is not waited for again.
type part[T any] struct {
	once  sync.Once
	value T
	err   error
}

func (p *part[T]) get(t testing.TB, start func(context.Context) (T, error)) T {
	t.Helper()
	p.once.Do(func() {
		p.err = errors.New("a test that needs it, too, has failed to make it") // should start end the test
		p.value, p.err = start(context.Background())
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.value
}

// oracle is the place of a case's build.
func (w *parkedWorld) oracle(name string) *part[parts.Job] {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.oracles == nil {
		w.oracles = map[string]*part[parts.Job]{}
	}
	if w.oracles[name] == nil {
		w.oracles[name] = &part[parts.Job]{}
	}
	return w.oracles[name]
}

func (w *parkedWorld) atEnd(stop func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stops = append(w.stops, stop)
}

// stop ends all parts, the last one first, and removes their data.
func (w *parkedWorld) stop() error {
	var errs []error
	for i := len(w.stops) - 1; i >= 0; i-- {
		errs = append(errs, w.stops[i]())
	}
	return errors.Join(append(errs, parts.RemoveAll(w.dir))...)
}

func registry(t testing.TB) *parts.Registry {
	return world.registry.get(t, func(ctx context.Context) (*parts.Registry, error) {
		r, err := parts.StartRegistry(ctx, filepath.Join(world.dir, "registry"), parts.RegistryOptions{})
		if err == nil {
			world.atEnd(r.Stop)
		}
		return r, err
	})
}

func buildkit(t testing.TB) *parts.BuildKit {
	reg := registry(t)
	return world.buildkit.get(t, func(ctx context.Context) (*parts.BuildKit, error) {
		b, err := parts.StartBuildKit(ctx, toolsDir(), filepath.Join(world.dir, "buildkit"), reg.Addr)
		if err == nil {
			world.atEnd(b.Stop)
		}
		return b, err
	})
}

// web serves files and repositories.
func web(t testing.TB) *parts.Web {
	return world.web.get(t, func(ctx context.Context) (*parts.Web, error) {
		w, err := parts.StartWeb(ctx, filepath.Join(world.dir, "repositories"))
		if err == nil {
			world.atEnd(w.Stop)
		}
		return w, err
	})
}

func agent(t testing.TB) *parts.Agent {
	return world.agent.get(t, func(ctx context.Context) (*parts.Agent, error) {
		a, err := parts.StartAgent(ctx, filepath.Join(world.dir, "agent"))
		if err == nil {
			world.atEnd(a.Stop)
		}
		return a, err
	})
}

func docker(t testing.TB) *parts.Docker {
	return world.docker.get(t, func(ctx context.Context) (*parts.Docker, error) {
		d, err := parts.StartDocker(ctx, filepath.Join(world.dir, "docker"))
		if err == nil {
			world.atEnd(d.Stop)
		}
		return d, err
	})
}

// toolsDir is where scripts/setup puts the programs that it builds.
func toolsDir() string { return filepath.Join(repository(), ".tools", "bin") }

func repository() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		panic(err) // only without a working directory
	}
	return dir
}

// gobuild returns the path of the program under test, built from the sources as they are.
func gobuild(t testing.TB) string {
	return world.gobuild.get(t, func(ctx context.Context) (string, error) {
		bin := filepath.Join(world.dir, "gobuild")
		cmd := exec.CommandContext(ctx, "scripts/build", bin)
		cmd.Dir = repository()
		if *program != "" {
			// Copied by another program: a file that this one has written may be busy when it is to be run, because
			// a child that was forked meanwhile still has it open.
			cmd = exec.CommandContext(ctx, "cp", *program, bin)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%q: %w\n%s", cmd.Args, err, out)
		}
		return bin, nil
	})
}

// busybox and debian return references of base images.
func busybox(t testing.TB) string {
	reg := registry(t)
	return world.bases[0].get(t, func(ctx context.Context) (string, error) {
		img, err := parts.Busybox(ctx, world.dir)
		return pushBase(ctx, reg, "busybox", img, err)
	})
}

func debian(t testing.TB) string {
	reg := registry(t)
	return world.bases[1].get(t, func(ctx context.Context) (string, error) {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		img, err := parts.Debian(ctx, filepath.Join(cache, "gobuild-tests"))
		return pushBase(ctx, reg, "debian", img, err)
	})
}

func pushBase(ctx context.Context, reg *parts.Registry, name string, img v1.Image, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("make base %s: %w", name, err)
	}
	ref := reg.Addr + "/base/" + name + ":1"
	return ref, parts.Push(ctx, ref, img)
}
