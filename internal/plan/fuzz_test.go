package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// FuzzNew holds that whatever the Dockerfile and the config of its bases, there is a sound plan or an error with a place.
func FuzzNew(f *testing.F) {
	for _, data := range dockerfiles(f) {
		f.Add(data, baseConfig)
	}
	f.Add([]byte("FROM a\nRUN x\n"), `{"config":{"Env":["A","=",""],"OnBuild":["RUN x","COPY --from=y / /","# check=skip=x\nRUN y"],"WorkingDir":"x","User":":"}}`)
	f.Fuzz(func(t *testing.T, data []byte, config string) {
		file, err := dockerfile.Parse("Dockerfile", data)
		if err != nil {
			return // FuzzParse is about those
		}
		o := Options{
			Bases:         anyBase(config),
			BuildPlatform: amd64,
			Platforms:     []v1.Platform{amd64, {OS: "linux", Architecture: "arm64"}},
			BuildArgs:     map[string]string{"A": "a", "http_proxy": "p"},
			Ignore:        []string{"a*"},
			Contexts:      map[string]string{"other": "dir", "image": "docker-image://a", "b": "target:0"},
			Allow:         []string{AllowInsecure, AllowDevice},
		}
		fuzzLook(t, file, o)
		p, err := New(t.Context(), file, o)
		if err != nil {
			if e, ok := errors.AsType[*dockerfile.Error](err); !ok || e.Pos.Line < 1 || e.Pos.Line > file.Lines() {
				t.Fatalf("error without a line of the file: %v", err)
			}
			return
		}
		checkPlan(t, p)
		if err := p.WriteText(io.Discard); err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(p); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzHeredoc holds that a heredoc whose word is quoted comes out of COPY as it went in, whatever is in it, and that RUN
// takes any.
func FuzzHeredoc(f *testing.F) {
	f.Add("EOF", "text $A\n\t\\ # no comment\n", "cat")
	f.Add("a.b-c", "#!/bin/sh\nEOF\n", "3<<x cat")
	f.Add("E", "<<F\n", "")
	f.Fuzz(func(t *testing.T, word, body, command string) {
		text := "FROM scratch\nENV A=b\nCOPY <<'" + word + "' /x\n" + body + "\n" + word + "\nRUN <<" + word + " " + command + "\n" + body + "\n" + word + "\n"
		file, err := dockerfile.Parse("Dockerfile", []byte(text))
		if err != nil {
			return
		}
		p, err := New(t.Context(), file, Options{BuildPlatform: amd64})
		if err != nil {
			if e, ok := errors.AsType[*dockerfile.Error](err); !ok || e.Pos.Line < 1 || e.Pos.Line > file.Lines() {
				t.Fatalf("error without a line of the file: %v", err)
			}
			return
		}
		checkPlan(t, p)
		plain := !strings.ContainsAny(word, "'\"\\ \t\r\n<$/") && word != "" && !strings.ContainsAny(body, "\r\x00") && utf8.ValidString(text)
		if !plain || slices.Contains(strings.Split(body, "\n"), word) || strings.HasPrefix(word, "-") {
			return
		}
		for _, s := range p.Steps {
			if c, ok := s.Op.(Copy); ok && s.Source.Line == 3 && len(c.Sources) == 1 && c.Sources[0].Inline != nil {
				if got := c.Sources[0].Inline.Data; got != body+"\n" {
					t.Fatalf("body %q became %q", body+"\n", got)
				}
			}
		}
	})
}

// fuzzLook asks what there is to say of a file.
func fuzzLook(t *testing.T, file *dockerfile.File, o Options) {
	report, err := Check(t.Context(), file, o)
	if err != nil {
		t.Fatal(err)
	}
	targets, err := ListTargets(file)
	if err != nil {
		t.Fatal(err)
	}
	answers := []interface{ WriteText(io.Writer) error }{report, targets}
	// Mistakes in stages that the target does not need are in the report alone.
	if outline, err := NewOutline(t.Context(), file, o); err == nil {
		answers = append(answers, outline)
	} else if report.Err == nil {
		t.Fatalf("no outline of a file without mistakes: %v", err)
	}
	for _, v := range answers {
		if err := v.WriteText(io.Discard); err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
}

// dockerfiles are those of this package's own tests and of the cases that whole builds are compared with.
func dockerfiles(f *testing.F) [][]byte {
	var all [][]byte
	for _, pattern := range []string{"testdata/*.txtar", "../../integration/cases/*.txtar"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no files %s: %v", pattern, err)
		}
		for _, file := range files {
			a, err := txtar.ParseFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for _, part := range a.Files {
				if strings.HasSuffix(part.Name, "Dockerfile") {
					all = append(all, bytes.ReplaceAll(bytes.ReplaceAll(part.Data, []byte("{{"), []byte("x")), []byte("}}"), nil))
				}
			}
		}
	}
	return all
}
