package push_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/push"
)

func TestDigestFiles(t *testing.T) {
	dir := t.TempDir()
	h := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	refs := []string{"reg.example/x:1", "debian", "reg.example/y@" + h.String()}
	for _, tc := range []struct {
		write func(path string) error
		want  string
	}{
		{func(p string) error { return push.WriteDigestFile(p, h) }, h.String()},
		{func(p string) error { return push.WriteImageNameWithDigestFile(p, refs, h) },
			"reg.example/x@" + h.String() + "\nindex.docker.io/library/debian@" + h.String() + "\nreg.example/y@" + h.String() + "\n"},
		{func(p string) error { return push.WriteImageNameTagWithDigestFile(p, refs, h) },
			"reg.example/x:1@" + h.String() + "\nindex.docker.io/library/debian:latest@" + h.String() + "\nreg.example/y@" + h.String() + "\n"},
	} {
		path := filepath.Join(dir, "file")
		if err := tc.write(path); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(path); string(b) != tc.want {
			t.Errorf("got %q, want %q", b, tc.want)
		}
	}
	if err := push.WriteDigestFile(filepath.Join(dir, "none", "file"), h); err == nil {
		t.Error("no error for a directory that does not exist")
	}
	noTemps(t, dir)
}

func TestParseOutput(t *testing.T) {
	for in, want := range map[string]push.Output{
		"out":                                        {Type: push.OutputLocal, Dest: "out"},
		"-":                                          {Type: push.OutputTar, Dest: "-"},
		"type=local,dest=out":                        {Type: push.OutputLocal, Dest: "out"},
		"type=tar,dest=-":                            {Type: push.OutputTar, Dest: "-"},
		`type=tar,"dest=a,b.tar"`:                    {Type: push.OutputTar, Dest: "a,b.tar"},
		"type=oci,dest=o.tar,name=x":                 {Type: push.OutputOCI, Dest: "o.tar", Names: []string{"x"}},
		"type=oci,dest=o,tar=false":                  {Type: push.OutputOCI, Dest: "o", Directory: true},
		"type=docker,dest=d.tar":                     {Type: push.OutputDocker, Dest: "d.tar"},
		`type=image,"name=a,b",push=true`:            {Type: push.OutputImage, Names: []string{"a", "b"}, Push: true},
		"type=registry,name=a":                       {Type: push.OutputImage, Names: []string{"a"}, Push: true},
		"type=image":                                 {Type: push.OutputImage},
		"type=image,rewrite-timestamp=true":          {Type: push.OutputImage, RewriteTimestamp: true},
		"type=oci,dest=o,rewrite-timestamp=1":        {Type: push.OutputOCI, Dest: "o", RewriteTimestamp: true},
		"type=docker,dest=d,rewrite-timestamp=false": {Type: push.OutputDocker, Dest: "d"},
	} {
		got, err := push.ParseOutput(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: got %s, want %s", in, a, b)
		}
	}
	for in, want := range map[string]string{
		"":                                 "key=value",
		"type=locale,dest=x":               `did you mean "local"`,
		"type=local,desk=x":                `did you mean "dest"`,
		"type=local,dest=x,dest=y":         "twice",
		"type=local,dest=x,zzzzzz=1":       "known are dest",
		"type=local,dest=x,push=true":      "has no key",
		"type=local,dest=x,mode=delete":    "not supported",
		"type=oci,dest=x,compression=zstd": "not supported",
		"dest=x,type":                      "not key=value",
		"dest=x,name=y":                    "type is missing",
		"type=local":                       "dest is missing",
		"type=local,dest=-":                "no directory",
		"type=docker":                      "no daemon",
		"type=docker,dest=x,tar=false":     "tar",
		"type=image,name=x,push=maybe":     "neither",
		"type=registry":                    "name is missing",
	} {
		_, err := push.ParseOutput(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
	}
}
