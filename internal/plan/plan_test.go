package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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

// The words are BuildKit's where it has an error of the same meaning.
func TestMistakes(t *testing.T) {
	for name, tt := range map[string]struct{ dockerfile, target, want string }{
		"target":            {"FROM a AS build\nFROM b AS other", "bulid", `target stage "bulid" could not be found (did you mean build?)`},
		"target-number":     {"FROM a\nFROM b", "2", `target stage "2" could not be found`},
		"circle":            {"FROM a AS x\nCOPY --from=y / /\nFROM b AS y\nCOPY --from=x / /\nFROM scratch", "", "Dockerfile:2: circular dependency detected on stage: x"},
		"circle-of-one":     {"FROM a\nCOPY --from=0 / /", "", "Dockerfile:2: circular dependency detected on stage: stage-0"},
		"copy-from-later":   {"FROM a AS x\nCOPY --from=y / /\nFROM b AS y\nFROM x", "", `Dockerfile:2: cannot copy from stage "y", it needs to be defined before current stage "x"`},
		"copy-from-index":   {"FROM a\nCOPY --from=7 / /", "", "Dockerfile:2: invalid stage index 7"},
		"copy-from-minus":   {"FROM a\nCOPY --from=-1 / /", "", "Dockerfile:2: invalid stage index -1"},
		"copy-from-var":     {"ARG X\nFROM a\nCOPY --from=$X / /", "", "Dockerfile:3: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"},
		"blank-base":        {"FROM $X", "", "Dockerfile:1: base name ($X) should not be blank"},
		"bad-base":          {"FROM a:b:c\nFROM scratch", "", `Dockerfile:1: parse stage name "a:b:c": invalid reference format`},
		"upper-case-base":   {"FROM Build", "", `Dockerfile:1: parse stage name "Build": invalid reference format: repository name (library/Build) must be lowercase`},
		"missing-base":      {"FROM a AS build\nFROM missing:1", "", "Dockerfile:2: resolve base image missing:1: no such image"},
		"missing-copy-from": {"FROM a AS missink\nFROM b\nENV a=b\nCOPY --from=missing / /", "", "Dockerfile:4: resolve base image missing: no such image (did you mean missink?)"},
		"platform-empty":    {"FROM --platform=$TARGETPLATFROM a", "", "Dockerfile:1: empty platform value from expression $TARGETPLATFROM (did you mean TARGETPLATFORM?)"},
		"platform-windows":  {"FROM --platform=windows/amd64 a", "", "Dockerfile:1: platform windows/amd64 is not supported"},
		"question":          {"FROM a\nENV X=\"${Y:?is needed}\"", "", `Dockerfile:2: failed to process "\"${Y:?is needed}\"": Y: is needed`},
		"question-unset":    {"FROM a\nENV X=${Y?}", "", `Dockerfile:2: failed to process "${Y?}": Y: is not allowed to be unset`},
		"question-empty":    {"ARG Y=\nARG X=${Y:?}\nFROM a", "", `Dockerfile:2: failed to process "${Y:?}": Y: is not allowed to be empty`},
		"substitution":      {"FROM a\nRUN x\nUSER ${x:-", "", `Dockerfile:3: failed to process "${x:-": syntax error: missing '}'`},
		"chmod-octal":       {"FROM a\nCOPY --chmod=10000 a b", "", "Dockerfile:2: invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777"},
		"chmod-number":      {"FROM a\nCOPY --chmod=64a a b", "", "Dockerfile:2: invalid chmod parameter: '64a'. it should be octal string and between 0 and 07777"},
		"chown-link":        {"FROM a\nCOPY --link --chown=app a b", "", "Dockerfile:2: --chown=app: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead"},
		"copy-url":          {"FROM a\nCOPY https://x/y z", "", "Dockerfile:2: source can't be a URL for COPY"},
		"copy-git":          {"FROM a\nCOPY https://x/y.git z", "", "Dockerfile:2: source can't be a git ref for COPY"},
		"checksum-local":    {"FROM a\nADD --checksum=sha256:1 a b", "", "Dockerfile:2: checksum requires HTTP(S) or Git sources"},
		"volume-empty":      {"FROM a\nVOLUME $X", "", "Dockerfile:2: VOLUME specified can not be an empty string"},
		"signal":            {"FROM a\nSTOPSIGNAL BOGUS", "", "Dockerfile:2: invalid signal: BOGUS"},
		"port":              {"FROM a\nEXPOSE 99999", "", "Dockerfile:2: invalid containerPort: 99999"},
		"port-proto":        {"FROM a\nEXPOSE 80/tpc", "", `Dockerfile:2: invalid port: "80/tpc": invalid proto: tpc`},
		"port-ip":           {"FROM a\nEXPOSE 300.1.1.1:80:80", "", "Dockerfile:2: invalid IP address: 300.1.1.1"},
		"heredoc-name":      {"FROM a\nCOPY <<a/b /x\na/b", "", `Dockerfile:2: heredoc "a/b" is no name for a file`},
		"heredoc-escape":    {"FROM a\nRUN <<../x\n#!/bin/sh\n../x", "", ""}, // cannot lead out of /dev/pipes
		"lint-as-error":     {"# check=error=true\nFROM a as B\nMAINTAINER x", "", "Dockerfile:2: lint violation found for rules: FromAsCasing, MaintainerDeprecated, StageNameCasing"},
		"epoch":             {"FROM a\nARG X\nFROM b", "", ""},
		"epoch-text":        {"ARG SOURCE_DATE_EPOCH=noon\nFROM a", "", "Dockerfile:1: invalid SOURCE_DATE_EPOCH: noon"},
		"epoch-context":     {"ARG SOURCE_DATE_EPOCH=context\nFROM a", "", "Dockerfile:1: SOURCE_DATE_EPOCH=context, the time of a source, is not supported yet"},
		// Not supported yet.
		"run-mount":     {"FROM a\nRUN --mount=type=cache,target=/x y", "", "Dockerfile:2: RUN --mount is not supported yet"},
		"run-mount-key": {"FROM a\nRUN --mount=typ=cache,target=/x y", "", "Dockerfile:2: unexpected key 'typ' in 'typ=cache' (did you mean type?)"},
		"run-security":  {"FROM a\nRUN --security=insecure x", "", "Dockerfile:2: RUN --security=insecure is not supported yet"},
		"run-device":    {"FROM a\nRUN --device=x/y=z x", "", "Dockerfile:2: RUN --device is not supported yet"},
		"add-url":       {"FROM a\nADD https://x/y z", "", "Dockerfile:2: ADD from a URL is not supported yet"},
		"add-git":       {"FROM a\nADD git@github.com:x/y.git z", "", "Dockerfile:2: ADD from a git ref is not supported yet"},
		"add-checksum":  {"FROM a\nADD --checksum=sha256:1 https://x/y z", "", "Dockerfile:2: ADD from a URL is not supported yet"},
		"keep-git-dir":  {"FROM a\nADD --keep-git-dir x z", "", "Dockerfile:2: ADD --keep-git-dir is not supported yet"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planText(t, tt.dockerfile, Options{Target: tt.target})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("error is\n%s\nwant\n%s", got, tt.want)
			}
			if _, ok := errors.AsType[*dockerfile.Error](err); strings.HasPrefix(tt.want, "Dockerfile:") && !ok {
				t.Errorf("error is %T", err)
			}
		})
	}
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

func TestBaseErrorIsWrapped(t *testing.T) {
	_, err := planText(t, "FROM missing", Options{})
	if !errors.Is(err, errMissing) {
		t.Errorf("%v does not wrap the cause", err)
	}
}

func TestSourceDateEpoch(t *testing.T) {
	for name, tt := range map[string]struct {
		dockerfile string
		args       map[string]string
		want       int64 // 0: none
	}{
		"build-arg":         {"FROM a", map[string]string{"SOURCE_DATE_EPOCH": "17"}, 17},
		"global-arg":        {"ARG SOURCE_DATE_EPOCH=18\nFROM a", nil, 18},
		"build-arg-wins":    {"ARG SOURCE_DATE_EPOCH=18\nFROM a", map[string]string{"SOURCE_DATE_EPOCH": "17"}, 17},
		"empty-resets":      {"ARG SOURCE_DATE_EPOCH=18\nFROM a", map[string]string{"SOURCE_DATE_EPOCH": ""}, 0},
		"stage-arg-is-none": {"FROM a\nARG SOURCE_DATE_EPOCH=18", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := planText(t, tt.dockerfile, Options{BuildArgs: tt.args})
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Epoch; (got == nil) != (tt.want == 0) || got != nil && !got.Equal(time.Unix(tt.want, 0)) {
				t.Errorf("epoch is %v, want %d", got, tt.want)
			}
		})
	}
}

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

func TestBadBaseConfig(t *testing.T) {
	for name, config := range map[string]string{
		"not-json":   `nope`,
		"wrong-type": `{"config": {"Env": "x"}}`,
		"empty":      ``,
		"trigger":    `{"config": {"OnBuild": ["BOGUS"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planText(t, "ARG X\nFROM a", Options{Bases: anyBase(config)})
			if e, ok := errors.AsType[*dockerfile.Error](err); !ok || e.Pos.Line != 2 {
				t.Errorf("error is not at the FROM: %v", err)
			}
		})
	}
	for name, config := range map[string]string{"null": `null`,
		"nothing": `{}`, "null-config": `{"config": null, "history": null}`,
		"trigger-copies-from-itself": `{"config": {"OnBuild": ["COPY --from=0 / /"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := planText(t, "FROM a\nRUN x", Options{Bases: anyBase(config)}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A Dockerfile that asks for gigabytes ends in an error, soon and without having them.
func TestExponentialText(t *testing.T) {
	repeat := func(n int, line func(i int) string) string {
		var b strings.Builder
		b.WriteString("FROM a\n")
		for i := range n {
			b.WriteString(line(i) + "\n")
		}
		return b.String()
	}
	line := func(s string) func(int) string { return func(int) string { return s } }
	big := strings.Repeat("x", 60000)
	for name, text := range map[string]string{
		"env":         "FROM a\nENV a=x\n" + strings.Repeat("ENV a=$a$a\n", 60),
		"arg":         "ARG a=x\n" + strings.Repeat("ARG a=$a$a\n", 60) + "FROM a\n",
		"many-refs":   "FROM a\nENV a=" + big + "\nLABEL b=" + strings.Repeat("$a", 20000) + "\n",
		"words":       "FROM a\nENV a=" + big + "\nEXPOSE " + strings.Repeat("$a", 20000) + "\n",
		"replace":     "FROM a\nENV a=" + big + "\nENV b=${a//x/" + big[:50000] + "}\n",
		"replaces":    "FROM a\nENV a=xxxxxxxxxxxxxxxx\nENV b=" + strings.Repeat("${a//x/", 12) + "y" + strings.Repeat("}", 12) + "\n",
		"replace-doc": "FROM a\nENV a=" + big + "\nCOPY <<E /\n${a//x/'}'" + big[:50000] + "}\nE\n",
		"replace-var": "FROM a\nENV a=" + big[:20000] + "\nENV b=${a//x/$a}\n",
		"expose":      repeat(100, line("EXPOSE 1-65535/tcp 1-65535/udp")),
		"expose-line": "FROM a\nEXPOSE " + strings.Repeat("1-65535 ", 8000) + "\n",
		"run-args":    repeat(5000, func(i int) string { return fmt.Sprintf("ARG v%d=xxxxxxxxxxxxxxxxxxxxx\nRUN x", i) }),
		"run-env":     repeat(5000, func(i int) string { return fmt.Sprintf("ENV v%d=xxxxxxxxxxxxxxxxxxxxx\nRUN x", i) }),
		"labels":      repeat(9000, func(i int) string { return fmt.Sprintf("LABEL v%d=x", i) }),
		"stages":      "FROM a AS s\n" + strings.Repeat("ENV a=b\n", 5000) + strings.Repeat("FROM s AS s\n", 30000),
		"many-copies": "FROM a\n" + strings.Repeat("COPY --from=img x y\n", 50000),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := planText(t, text, Options{})
			if err == nil {
				t.Error("no error")
			}
			if d := time.Since(start); d > time.Minute {
				t.Errorf("took %v", d)
			}
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			if m.HeapSys > 512<<20 {
				t.Errorf("heap grew to %d MiB", m.HeapSys>>20)
			}
			t.Logf("%v, heap %d MiB: %v", time.Since(start).Round(time.Millisecond), m.HeapSys>>20, shortError(err))
		})
	}
	// What is large and makes sense goes through.
	for name, text := range map[string]string{
		"replace":     "FROM a\nENV a=1.2.3-" + strings.Repeat("x", 2000) + "\nENV b=${a//./-} c=https://x/${a//./_}//y\n",
		"heredoc":     "FROM a\nENV a=1.2\nCOPY <<E /\n${a//./-}\n" + strings.Repeat(big+"\n", 8) + "E\n",
		"onbuild":     "FROM a AS s0\nONBUILD ENV a=" + big + "\n" + strings.Repeat("FROM s0\n", 5000),
		"all-ports":   "FROM a\nEXPOSE 1-65535\nRUN x\nRUN y\n",
		"large-label": "FROM a\nLABEL a=" + big + " b=" + big[:1000] + "\n",
		"1000-runs":   repeat(1000, line("RUN x && "+big[:500])),
	} {
		t.Run("fine-"+name, func(t *testing.T) {
			if _, err := planText(t, text, Options{}); err != nil {
				t.Error(shortError(err))
			}
		})
	}
}

func shortError(err error) string {
	s := fmt.Sprint(err)
	return s[:min(len(s), 200)]
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
	for _, s := range p.Steps {
		want := "V=p"
		if i := strings.Index(s.Name, "[c"); i == 0 {
			want = "V=" + s.Name[2:3]
		} else if !strings.HasPrefix(s.Name, "[p 2/2]") {
			continue
		}
		if !slices.Contains(s.Image.Config.Env, want) && s.Source.Line > 6 {
			t.Errorf("%s has variables %q, want %s", s.Name, s.Image.Config.Env, want)
		}
		if n := len(s.Image.Config.OnBuild); n > 1 {
			t.Errorf("%s has %d triggers", s.Name, n)
		}
		if _, ok := s.Image.Config.Labels["last"]; ok {
			t.Errorf("%s has the label of the goal", s.Name)
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
		below := 0
		if s.Base == nil {
			switch s.Op.(type) {
			case Pull, Scratch:
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

func TestBuildArgWarnings(t *testing.T) {
	bases := anyBase(`{"config": {"OnBuild": ["ARG FROM_TRIGGER"]}}`)
	args := map[string]string{
		"GLOBAL": "", "IN_UNUSED_STAGE": "", "FROM_TRIGGER": "", "https_proxy": "", "TARGETARCH": "", "BUILDKIT_INLINE_CACHE": "",
		"MISSPELT": "", "OTHER": "",
	}
	p, err := planText(t, "ARG GLOBAL\nFROM a\nARG IN_UNUSED_STAGE\nFROM a\n", Options{Bases: bases, BuildArgs: args})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range p.Warnings {
		got = append(got, w.String())
	}
	want := []string{
		`Dockerfile: build argument "MISSPELT" is not declared by any ARG`,
		`Dockerfile: build argument "OTHER" is not declared by any ARG`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings are %q, want %q", got, want)
	}
}

func TestSyntaxWarning(t *testing.T) {
	for ref, warn := range map[string]bool{
		"docker/dockerfile:1":                        false,
		"docker.io/docker/dockerfile-upstream:x@y":   false,
		"mirror.example:5000/team/dockerfile:1-labs": false,
		"example/other:1":                            true,
	} {
		p, err := planText(t, "# syntax="+ref+"\nFROM a\n", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(p.Warnings) > 0; got != warn {
			t.Errorf("%s: warnings are %v", ref, p.Warnings)
		}
	}
}

// An image for another platform keeps its platform, unless one was asked for.
func TestImplicitPlatform(t *testing.T) {
	bases := anyBase(`{"architecture": "arm64", "os": "linux", "variant": "v8"}`)
	for want, o := range map[string]Options{
		"linux/arm64": {Bases: bases},
		"linux/amd64": {Bases: bases, Platforms: []v1.Platform{amd64}},
	} {
		p, err := planText(t, "FROM a", o)
		if err != nil {
			t.Fatal(err)
		}
		if got := formatPlatform(p.Goals[0].Image.Platform); got != want {
			t.Errorf("platform is %s, want %s", got, want)
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
