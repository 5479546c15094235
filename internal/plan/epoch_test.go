package plan

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSourceDateEpoch(t *testing.T) {
	const stage = "FROM scratch AS src\nARG V=2\nADD https://x/y$V.tgz /\n"
	for name, tt := range map[string]struct {
		dockerfile string
		args       map[string]string
		want       int64 // 0: none
	}{
		"named-context":     {"ARG SOURCE_DATE_EPOCH=remote\nFROM a", nil, 20},
		"named-directory":   {"ARG SOURCE_DATE_EPOCH=dir\nFROM a", nil, 0},
		"named-image":       {"ARG SOURCE_DATE_EPOCH=image\n" + "FROM scratch AS image\nADD https://x/y /\nFROM a", nil, 0},
		"build-arg":         {"FROM a", map[string]string{"SOURCE_DATE_EPOCH": "17"}, 17},
		"global-arg":        {"ARG SOURCE_DATE_EPOCH=18\nFROM a", nil, 18},
		"build-arg-wins":    {"ARG SOURCE_DATE_EPOCH=18\nFROM a", map[string]string{"SOURCE_DATE_EPOCH": "17"}, 17},
		"empty-resets":      {"ARG SOURCE_DATE_EPOCH=18\nFROM a", map[string]string{"SOURCE_DATE_EPOCH": ""}, 0},
		"stage-arg-is-none": {"FROM a\nARG SOURCE_DATE_EPOCH=18", nil, 0},
		"context":           {"ARG SOURCE_DATE_EPOCH=context\nFROM a", nil, 19},
		"context-build-arg": {"FROM a", map[string]string{"SOURCE_DATE_EPOCH": "context"}, 19},
		"context-of-arg":    {"ARG OF=text\nARG SOURCE_DATE_EPOCH=con$OF\nFROM a", nil, 19},
		"stage":             {"ARG SOURCE_DATE_EPOCH=SRC\n" + stage + "FROM a", nil, 20},
		"stage-build-arg":   {stage + "FROM a", map[string]string{"SOURCE_DATE_EPOCH": "src"}, 20},
		"unused-stage-base": {"ARG SOURCE_DATE_EPOCH=src\nARG B=scratch\nFROM $B AS src\nADD git@h.x:y.git#main:d /\nFROM a", nil, 20},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := planText(t, tt.dockerfile, Options{
				BuildArgs: tt.args,
				Contexts: map[string]string{
					"remote": "https://x/y.git", "dir": "./here", "image": "docker-image://a",
				},
				ContextTime: func(context.Context) (time.Time, error) { return time.Unix(19, 5), nil },
				SourceTime:  func(context.Context, Op) (time.Time, error) { return time.Unix(20, 0), nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Epoch; (got == nil) != (tt.want == 0) || got != nil && !got.Equal(time.Unix(tt.want, 0)) {
				t.Errorf("epoch is %v, want %d", got, tt.want)
			}
		})
	}
}

// TestEpochSource holds what a stage's time is asked of: its words are expanded as they will be when it is built.
func TestEpochSource(t *testing.T) {
	const sum = "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for add, want := range map[string]Op{
		"ADD https://x/$V/y.tgz /":                   HTTP{URL: "https://x/3/y.tgz", Name: "y.tgz"},
		"ADD --checksum=$SUM https://x/y /":          HTTP{URL: "https://x/y", Name: "y", Checksum: sum},
		"ADD --keep-git-dir https://h/r.git#v$V:d /": Git{Remote: "https://h/r.git", Ref: "v3", Subdir: "d", KeepDir: true},
		"ADD https://h/r.git#$SOURCE_DATE_EPOCH /":   Git{Remote: "https://h/r.git"},
	} {
		var got Op
		_, err := planText(t, "ARG SOURCE_DATE_EPOCH=src\nARG SUM="+sum+"\nFROM scratch AS src\nARG V=2\n"+add+"\nFROM a", Options{
			BuildArgs: map[string]string{"V": "3"},
			SourceTime: func(_ context.Context, op Op) (time.Time, error) {
				got = op
				return time.Unix(1, 0), nil
			},
		})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: asked for %+v, %v; want %+v", add, got, err, want)
		}
	}
}

// TestSourceWithoutTime holds that nothing is fixed then, and that the argument has no value.
func TestSourceWithoutTime(t *testing.T) {
	for _, o := range []Options{{}, {
		ContextTime: func(context.Context) (time.Time, error) { return time.Time{}, nil },
		SourceTime:  func(context.Context, Op) (time.Time, error) { return time.Time{}, nil },
	}} {
		for _, value := range []string{"context", "src"} {
			p, err := planText(t, "ARG SOURCE_DATE_EPOCH="+value+"\nFROM scratch AS src\nADD https://x/y /\nFROM a\nARG SOURCE_DATE_EPOCH\nENV E=${SOURCE_DATE_EPOCH-none}", o)
			if err != nil {
				t.Fatal(err)
			}
			if env := p.Goals[0].Image.Config.Env; p.Epoch != nil || env[len(env)-1] != "E=none" {
				t.Errorf("%s: epoch %v, variables %q", value, p.Epoch, env)
			}
		}
	}
}

// TestEpochIsAValue holds that stages see the seconds, not the word.
func TestEpochIsAValue(t *testing.T) {
	p, err := planText(t, "ARG SOURCE_DATE_EPOCH=context\nFROM a\nARG SOURCE_DATE_EPOCH\nENV E=$SOURCE_DATE_EPOCH", Options{
		ContextTime: func(context.Context) (time.Time, error) { return time.Unix(77, 0), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if env := p.Goals[0].Image.Config.Env; env[len(env)-1] != "E=77" {
		t.Errorf("variables %q", env)
	}
}

func TestEpochErrorsAreKept(t *testing.T) {
	broken := errors.New("no route")
	o := Options{
		ContextTime: func(context.Context) (time.Time, error) { return time.Time{}, broken },
		SourceTime:  func(context.Context, Op) (time.Time, error) { return time.Time{}, broken },
	}
	for _, value := range []string{"context", "src"} {
		_, err := planText(t, "\nARG SOURCE_DATE_EPOCH="+value+"\nFROM scratch AS src\nADD https://x/y /\nFROM a", o)
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "Dockerfile:2: get time of") {
			t.Errorf("%s: %v", value, err)
		}
	}
}
