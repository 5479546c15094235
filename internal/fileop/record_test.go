package fileop_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gobuild-dev/gobuild/internal/fileop"
)

const recordFile = "testdata/buildkit.txt"

var buildkit = flag.String("buildkit", "", "record what the buildkitd at this address does, instead of testing") //nolint:gochecknoglobals // a flag

// recorded is what BuildKit does with one instruction.
type recorded struct {
	comment string // lines above the instruction, with their "# "
	line    string
	want    string // files of the layer, or "error: …"
}

// readRecord reads cases: an instruction after "=== ", then the lines of list.
func readRecord(t testing.TB) []recorded {
	t.Helper()
	b, err := os.ReadFile(recordFile)
	must(t, err)
	var cases []recorded
	comment := ""
	for l := range strings.Lines(string(b)) {
		switch line, ok := strings.CutPrefix(l, "=== "); {
		case ok:
			cases = append(cases, recorded{comment: comment, line: strings.TrimSpace(line)})
			comment = ""
		case strings.HasPrefix(l, "#") || strings.TrimSpace(l) == "":
			comment += l
		default:
			cases[len(cases)-1].want += l
		}
	}
	return cases
}

// TestLikeBuildKit compares with what BuildKit was seen to do. To record anew:
//
//	go test ./internal/fileop -run TestLikeBuildKit -buildkit unix:///run/buildkit/buildkitd.sock
func TestLikeBuildKit(t *testing.T) {
	dir := t.TempDir()
	writeContext(t, dir)
	cases := readRecord(t)
	if *buildkit != "" {
		record(t, dir, cases)
		return
	}
	context := diskTree(t, dir)
	base := layers(t, instruction(t, "ADD base.tar /", context))
	for _, c := range cases {
		t.Run(c.line, func(t *testing.T) {
			var got string
			var err error
			if path, ok := strings.CutPrefix(c.line, "WORKDIR "); ok {
				got, err = list(t, fileop.WorkDir(t.Context(), base, path, "", time.Unix(0, 0)))
			} else {
				tree := context
				if strings.Contains(c.line, "--from=base") {
					tree = base
				}
				got, err = run(t, instruction(t, c.line, tree), base)
			}
			if err != nil {
				got = "error: " + err.Error() + "\n"
			}
			if !strings.Contains(c.comment, "other error") {
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("BuildKit -, gobuild +:\n%s", diff)
				}
			} else if !strings.HasPrefix(got, "error: ") {
				t.Errorf("no error, but:\n%s", got)
			}
		})
	}
}

// record rewrites the file with what BuildKit does.
func record(t *testing.T, dir string, cases []recorded) {
	var out strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&out, "%s=== %s\n%s", c.comment, c.line, buildWith(t, dir, c.line))
	}
	must(t, os.WriteFile(recordFile, []byte(out.String()), 0o600))
}

// buildWith returns the files of the layer that BuildKit makes of the instruction.
func buildWith(t *testing.T, dir, line string) string {
	t.Helper()
	def, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(filepath.Join(def, "Dockerfile"), []byte("FROM scratch AS base\nADD base.tar /\nFROM base\n"+line+"\n"), 0o600))
	cmd := exec.Command("buildctl", "--addr", *buildkit, "build", "--frontend", "dockerfile.v0", "--no-cache", "--progress", "plain",
		"--local", "context="+dir, "--local", "dockerfile="+def, "--output", "type=oci,tar=false,dest="+image)
	log, err := cmd.CombinedOutput()
	if err != nil {
		return "error: " + buildError(string(log)) + "\n"
	}
	var index, manifest struct{ Manifests, Layers []struct{ Digest string } }
	readJSON(t, filepath.Join(image, "index.json"), &index)
	blob := func(digest string) string {
		return filepath.Join(image, "blobs", strings.ReplaceAll(digest, ":", "/"))
	}
	readJSON(t, blob(index.Manifests[0].Digest), &manifest)
	f, err := os.Open(blob(manifest.Layers[len(manifest.Layers)-1].Digest))
	must(t, err)
	defer func() { must(t, f.Close()) }()
	z, err := gzip.NewReader(f)
	must(t, err)
	var b bytes.Buffer
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return b.String()
		}
		must(t, err)
		b.WriteString(strings.ReplaceAll(lineOf(h), "\x00", ""))
	}
}

func lineOf(h *tar.Header) string { return line(h) }

// buildError finds what went wrong in buildctl's output, without names of this machine.
func buildError(log string) string {
	msg := ""
	for l := range strings.Lines(log) {
		if s, ok := strings.CutPrefix(strings.TrimSpace(l), "error: failed to solve: "); ok {
			msg = s
		}
	}
	for _, re := range []string{`failed to compute cache key: `, `failed to calculate checksum of ref \S+: `, `/\S*/cachemounts/buildkit\d+`} {
		msg = regexp.MustCompile(re).ReplaceAllString(msg, "")
	}
	return msg
}

func readJSON(t *testing.T, name string, to any) {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	must(t, json.Unmarshal(b, to))
}
