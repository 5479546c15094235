package plan

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

const baseConfig = `{"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
	"rootfs": {"type": "layers", "diff_ids": ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}`

var amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}

// anyBase has the same config for every image.
type anyBase string

func (b anyBase) Base(_ context.Context, ref string, _ v1.Platform) (Base, error) {
	if strings.Contains(ref, "missing") {
		return Base{}, errMissing
	}
	return Base{Config: []byte(b)}, nil
}

var errMissing = errors.New("no such image")

// countingBases lets calls return only when n of them have begun.
type countingBases struct {
	mu    sync.Mutex
	n     int
	all   chan struct{}
	calls map[string]int
}

func (b *countingBases) Base(ctx context.Context, ref string, p v1.Platform) (Base, error) {
	b.mu.Lock()
	b.calls[ref+" "+p.String()]++
	if len(b.calls) == b.n {
		close(b.all)
	}
	b.mu.Unlock()
	select {
	case <-b.all:
		return Base{Config: []byte(baseConfig)}, nil
	case <-ctx.Done():
		return Base{}, context.Cause(ctx)
	}
}

// Bases are looked up all at once, each once, for what is needed only.
func TestBasesInParallelAndOnce(t *testing.T) {
	text := `FROM one AS a
FROM one AS b
FROM two AS c
FROM never
FROM --platform=$BUILDPLATFORM three
COPY --from=a / /
COPY --from=b / /
COPY --from=c / /
COPY --from=four / /
COPY --from=four / /
`
	b := &countingBases{n: 7, all: make(chan struct{}), calls: map[string]int{}}
	arm64 := v1.Platform{OS: "linux", Architecture: "arm64"}
	p, err := planText(t, text, Options{Bases: b, Platforms: []v1.Platform{amd64, arm64}})
	if err != nil {
		t.Fatal(err)
	}
	if len(b.calls) != 7 {
		t.Errorf("looked up %v", b.calls)
	}
	for ref, n := range b.calls {
		if n != 1 {
			t.Errorf("%s was looked up %d times", ref, n)
		}
	}
	if len(p.Goals) != 2 || p.Goals[0].Image.Architecture != "amd64" || p.Goals[1].Image.Architecture != "arm64" {
		t.Errorf("goals are %v", p.Goals)
	}
}

// hangingBases fails for one image and hangs for the others.
type hangingBases struct{}

func (hangingBases) Base(ctx context.Context, ref string, _ v1.Platform) (Base, error) {
	if strings.Contains(ref, "missing") {
		return Base{}, errMissing
	}
	<-ctx.Done()
	return Base{}, context.Cause(ctx)
}

func TestFirstBaseErrorEndsTheOthers(t *testing.T) {
	_, err := planText(t, "FROM slow AS a\nFROM missing\nCOPY --from=a / /", Options{
		Bases: hangingBases{}, Platforms: []v1.Platform{amd64, {OS: "linux", Architecture: "arm64"}},
	})
	if want := "Dockerfile:2: resolve base image missing: no such image"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestCancel(t *testing.T) {
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM slow"))
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("user went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := New(ctx, f, Options{Bases: hangingBases{}, BuildPlatform: amd64}); !errors.Is(err, cause) {
		t.Errorf("error is %v, want %v", err, cause)
	}
}
