package plan

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

func planText(t *testing.T, text string, o Options) (*Plan, error) {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if o.Bases == nil {
		o.Bases = anyBase(baseConfig)
	}
	if o.BuildPlatform.OS == "" {
		o.BuildPlatform = amd64
	}
	return New(t.Context(), f, o)
}

func TestTargetByNumber(t *testing.T) {
	p, err := planText(t, "FROM a\nENV N=0\nFROM a\nENV N=1", Options{Target: "0"})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Goals[0].Name; got != "[stage-0] ENV N=0" {
		t.Errorf("goal is %q", got)
	}
}

// Steps share what they may not change. Each has the image of the one below it and its own entries, whoever was
// built on the same step.
func TestImagesDoNotMix(t *testing.T) {
	text := "FROM a AS p\nENV V=p\nLABEL l=p\nEXPOSE 1\nVOLUME /p\nRUN p\n"
	for i := range 5 {
		text += fmt.Sprintf("FROM p AS c%d\nENV V=%d W%d=x\nLABEL l=%d\nEXPOSE 1%d\nVOLUME /c%d\nONBUILD RUN %d\nRUN c\nCMD %d\n", i, i, i, i, i, i, i, i)
	}
	text += "FROM scratch\n"
	for i := range 5 {
		text += fmt.Sprintf("COPY --from=c%d / /%d\n", i, i)
	}
	p, err := planText(t, text, Options{Labels: map[string]string{"last": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	checkPlan(t, p)
	checked := 0
	for _, s := range p.Steps {
		c := s.Image.Config
		if _, ok := c.Labels["last"]; ok && s != p.Goals[0] {
			t.Errorf("%s has the label of the goal", s.Name)
		}
		var who string
		switch {
		case strings.HasPrefix(s.Name, "[p 2/2]"):
			who = "p"
		case strings.Contains(s.Name, "] CMD "):
			who = s.Name[2:3]
		default:
			continue
		}
		checked++
		got := fmt.Sprint(c.Env[1:], c.Labels, sortedKeys(c.ExposedPorts), sortedKeys(c.Volumes), c.OnBuild)
		want := fmt.Sprintf("[V=%[1]s W%[1]s=x] map[l:%[1]s] [1/tcp 1%[1]s/tcp] [/c%[1]s /p] [RUN %[1]s]", who)
		if who == "p" {
			want = "[V=p] map[l:p] [1/tcp] [/p] []"
		}
		if got != want {
			t.Errorf("%s has\n%s\nwant\n%s", s.Name, got, want)
		}
	}
	if checked != 6 {
		t.Errorf("checked %d steps", checked)
	}
}

// Equal instructions on an equal base are one step, but not when they mean something else.
func TestMerge(t *testing.T) {
	p, err := planText(t, `FROM a AS one
CMD ["c"]
ENTRYPOINT ["e"]
FROM a AS two
CMD ["c"]
FROM two AS three
ENTRYPOINT ["e"]
FROM scratch
COPY --from=one / /
COPY --from=three / /
`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkPlan(t, p)
	var names []string
	for _, s := range p.Steps {
		names = append(names, fmt.Sprint(s.Name, s.Image.Config.Cmd))
	}
	want := []string{
		"[one 1/1] FROM docker.io/library/a:latest[]", `[one] CMD ["c"][c]`, `[one] ENTRYPOINT ["e"][c]`, `[three] ENTRYPOINT ["e"][]`,
		"FROM scratch[]", "[stage-3 1/2] COPY --from=one / /[]", "[stage-3 2/2] COPY --from=three / /[]",
	}
	if !slices.Equal(names, want) {
		t.Errorf("steps are\n%s\nwant\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
}

// Goals on one platform for several are several images.
func TestGoalsAreNotMerged(t *testing.T) {
	for _, text := range []string{"FROM --platform=$BUILDPLATFORM a", "FROM --platform=$BUILDPLATFORM a\nRUN x"} {
		p, err := planText(t, text, Options{Platforms: []v1.Platform{amd64, {OS: "linux", Architecture: "arm64"}}})
		if err != nil {
			t.Fatal(err)
		}
		checkPlan(t, p)
		if a, b := p.Goals[0].Image.Architecture, p.Goals[1].Image.Architecture; a != "amd64" || b != "arm64" {
			t.Errorf("%q: images are for %s and %s", text, a, b)
		}
	}
}

// checkPlan holds what is so in every plan.
func checkPlan(t *testing.T, p *Plan) {
	t.Helper()
	seen := map[*Step]bool{}
	for i, s := range p.Steps {
		if s.ID != i+1 || s.Image == nil || s.Name == "" || s.Source.Line == 0 {
			t.Fatalf("step %d is incomplete: %+v", i+1, s)
		}
		var below int
		if s.Base == nil {
			switch s.Op.(type) {
			case Pull, Scratch, HTTP, Git, Local:
			default:
				t.Fatalf("step %d, a %T, has no base", s.ID, s.Op)
			}
			below = len(s.Image.History) - len(s.Adds)
		} else {
			if !seen[s.Base] {
				t.Fatalf("step %d comes before its base", s.ID)
			}
			below = len(s.Base.Image.History)
			if !sameHistory(s.Base.Image.History, s.Image.History[:below]) {
				t.Fatalf("step %d has another history than its base", s.ID)
			}
		}
		if !sameHistory(s.Image.History[below:], s.Adds) {
			t.Fatalf("step %d does not add its entries", s.ID)
		}
		for _, u := range s.Uses {
			if !seen[u] {
				t.Fatalf("step %d comes before what it uses", s.ID)
			}
		}
		if c, ok := s.Op.(Copy); ok {
			for _, src := range c.Sources {
				if src.From != nil && !slices.Contains(s.Uses, src.From) {
					t.Fatalf("step %d does not use its source", s.ID)
				}
			}
		}
		seen[s] = true
	}
	needed := map[*Step]bool{}
	var need func(s *Step)
	need = func(s *Step) {
		for ; s != nil && !needed[s]; s = s.Base {
			needed[s] = true
			for _, u := range s.Uses {
				need(u)
			}
		}
	}
	for _, g := range p.Goals {
		need(g)
	}
	if len(needed) != len(p.Steps) {
		t.Fatalf("%d of %d steps are needed", len(needed), len(p.Steps))
	}
}

func sameHistory(a, b []ocispec.History) bool {
	return slices.EqualFunc(a, b, func(a, b ocispec.History) bool { return reflect.DeepEqual(a, b) })
}

func TestPlansAtTheSameTime(t *testing.T) {
	f, err := dockerfile.Parse("Dockerfile", []byte("ARG A=1\nFROM a AS s\nARG A\nRUN $A\nFROM s\nENV B=$A\nCOPY --from=s / /\n"))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	texts := make([]string, 8)
	for i := range texts {
		group.Go(func() {
			p, err := New(t.Context(), f, Options{Bases: anyBase(baseConfig), BuildPlatform: amd64})
			if err != nil {
				t.Error(err)
				return
			}
			b, err := json.Marshal(p)
			if err != nil {
				t.Error(err)
			}
			texts[i] = string(b)
		})
	}
	group.Wait()
	for _, s := range texts {
		if s != texts[0] {
			t.Errorf("plans differ:\n%s\n%s", texts[0], s)
		}
	}
}

// The order is the one in which BuildKit's processes get them.
func TestEnviron(t *testing.T) {
	r := Run{Env: []string{"A=1", "no_proxy=env", "PATH=/bin"}, Proxies: []string{"NO_PROXY=arg", "no_proxy=arg"}}
	want := []string{"A=1", "no_proxy=arg", "PATH=/bin", "NO_PROXY=arg"}
	if got := r.Environ(); !slices.Equal(got, want) {
		t.Errorf("environment is %q, want %q", got, want)
	}
	if r.Env[1] != "no_proxy=env" {
		t.Error("the step has been changed")
	}
}

// An image for another platform keeps its platform, unless one was asked for, and its variant, unless that was.
func TestPlatformOfGoal(t *testing.T) {
	for _, tt := range []struct {
		base string
		ask  []v1.Platform
		want string
	}{
		{`{"architecture": "arm64", "os": "linux", "variant": "v8"}`, nil, "linux/arm64"},
		{`{"architecture": "arm64", "os": "linux", "variant": "v8"}`, []v1.Platform{amd64}, "linux/amd64"},
		{`{"architecture": "amd64", "os": "linux", "variant": "v2"}`, []v1.Platform{amd64}, "linux/amd64/v2"},
		{`{"architecture": "arm", "os": "linux", "variant": "v7"}`, []v1.Platform{{OS: "linux", Architecture: "arm", Variant: "v6"}}, "linux/arm/v6"},
	} {
		p, err := planText(t, "FROM a", Options{Bases: anyBase(tt.base), Platforms: tt.ask})
		if err != nil {
			t.Fatal(err)
		}
		if got := formatPlatform(p.Goals[0].Image.Platform); got != tt.want {
			t.Errorf("base %s for %v: platform is %s, want %s", tt.base, tt.ask, got, tt.want)
		}
	}
}

func TestWriteTextIsSafeForTerminals(t *testing.T) {
	p, err := planText(t, "FROM a\nARG X\nRUN echo $X", Options{BuildArgs: map[string]string{"X": "\x1b[2J\nnext\u009b"}})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := p.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); strings.ContainsAny(s, "\x1b\u009b") || strings.Contains(s, "\nnext") {
		t.Errorf("text has control characters: %q", s)
	}
}
