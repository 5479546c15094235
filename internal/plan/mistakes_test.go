package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

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
		"upper-case-stage":  {"FROM a AS s\nFROM S", "", `Dockerfile:2: parse stage name "S": invalid reference format: repository name (library/S) must be lowercase`},
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
		"epoch-base":        {"ARG SOURCE_DATE_EPOCH=src\nFROM a AS src\nADD https://x/y /\nFROM b", "", "Dockerfile:2: SOURCE_DATE_EPOCH=src: the stage has a base; one that gives the time is FROM scratch"},
		"epoch-run":         {"ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD https://x/y /\nRUN y\nFROM b", "", "Dockerfile:2: SOURCE_DATE_EPOCH=src: a stage that gives the time has one ADD and else only ARG, not RUN"},
		"epoch-two":         {"ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD https://x/y /\nADD https://x/z /\nFROM b", "", "Dockerfile:2: SOURCE_DATE_EPOCH=src: a stage that gives the time has one ADD, not two"},
		"epoch-none":        {"ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nFROM b", "", "Dockerfile:2: SOURCE_DATE_EPOCH=src: the stage has no ADD of a URL or a git repository"},
		"epoch-local":       {"ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD y /\nFROM b", "", `Dockerfile:2: "y" has no time: it is neither a URL nor a git repository`},
		"epoch-sources":     {"ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD https://x/y https://x/z /\nFROM b", "", "Dockerfile:2: an ADD that gives the time has one source"},
		"run-mount-key":     {"FROM a\nRUN --mount=typ=cache,target=/x y", "", "Dockerfile:2: unexpected key 'typ' in 'typ=cache' (did you mean type?)"},
		"run-mount-type":    {"FROM a\nRUN --mount=type=tmp,target=/x y", "", `Dockerfile:2: unsupported mount type "tmp" (did you mean tmpfs?)`},
		"run-mount-later":   {"FROM a AS x\nRUN --mount=from=y,target=/x y\nFROM b AS y\nFROM x", "", `Dockerfile:2: cannot mount from stage "y" to "/x", stage needs to be defined before current command`},
		"run-mount-circle":  {"FROM a AS x\nRUN --mount=from=x,target=/x y", "", "Dockerfile:2: circular dependency detected on stage: x"},
		"run-mount-root":    {"FROM a\nRUN --mount=target=/ y", "", `Dockerfile:2: invalid mount target "/"`},
		"run-mount-rootdir": {"FROM a\nRUN --mount=type=cache,target=.. y", "", `Dockerfile:2: invalid mount target "/"`},
		"run-mount-ssh":     {"FROM a\nRUN --mount=type=ssh,source=x y", "", "Dockerfile:2: ssh does not support source"},
		"run-mount-secret":  {"FROM a\nRUN --mount=type=secret y", "", "Dockerfile:2: invalid secret mount. one of source, target required"},
		"comment-key":       {"FROM a\n# gobuild: cache-tll=1h\nRUN y", "", `Dockerfile:3: unknown key "cache-tll" in comment "gobuild: cache-tll=1h" (did you mean cache-ttl?)`},
		"comment-ttl":       {"FROM a\n# gobuild: cache-ttl=week\nRUN y", "", `Dockerfile:3: cache-ttl "week" is not a duration such as 24h`},
		"run-security":      {"FROM a\nRUN --security=insecure x", "", "Dockerfile:2: security.insecure is not allowed: the build must be started with --allow security.insecure"},
		"run-device":        {"FROM a\nRUN --device=x/y=z x", "", "Dockerfile:2: device=x/y=z is not allowed: the build must be started with --allow device=x/y=z"},
		"add-checksum":      {"FROM a\nADD --checksum=sha256:1 https://x/y z", "", `Dockerfile:2: parse checksum "sha256:1": invalid checksum digest length`},
		"add-checksum-many": {"FROM a\nADD --checksum=sha256:1 https://x/y https://x/z /", "", "Dockerfile:2: checksum can't be specified for multiple sources"},
		"add-git-checksum":  {"FROM a\nADD --checksum=abc https://x/y.git?checksum=abd z", "", `Dockerfile:2: checksum mismatch "abc" != "abd"`},
		"add-git-keep":      {"FROM a\nADD --keep-git-dir=false https://x/y.git?keep-git-dir=true z", "", "Dockerfile:2: inconsistent keep-git-dir configuration"},
		"add-git-query":     {"FROM a\nADD https://x/y.git?nonsense=1 z", "", `Dockerfile:2: parse git reference "https://x/y.git?nonsense=1": unexpected query "nonsense"`},
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

func TestBaseErrorIsWrapped(t *testing.T) {
	_, err := planText(t, "FROM missing", Options{})
	if !errors.Is(err, errMissing) {
		t.Errorf("%v does not wrap the cause", err)
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
		// The build argument goes before the directive.
		p, err = planText(t, "# syntax=example/directive\nFROM a\n", Options{BuildArgs: map[string]string{"BUILDKIT_SYNTAX": ref}})
		if err != nil {
			t.Fatal(err)
		}
		want := `Dockerfile: frontend "` + ref + `" is not used: gobuild reads the language of docker/dockerfile itself`
		switch {
		case !warn && len(p.Warnings) > 0, warn && (len(p.Warnings) != 1 || p.Warnings[0].String() != want):
			t.Errorf("BUILDKIT_SYNTAX=%s: warnings are %v", ref, p.Warnings)
		}
	}
}
