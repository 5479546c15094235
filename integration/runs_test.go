package integration

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/progress"
)

// steps builds with events as JSON, and returns the kinds with which steps began and ended, by the step's instruction.
func (s *site) steps(more ...string) map[string][]progress.Kind {
	s.t.Helper()
	out := s.mustBuild(append(more, "--progress", "json")...)
	m := map[string][]progress.Kind{}
	for line := range strings.Lines(out) {
		var e progress.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			s.t.Fatalf("%q is no event: %v", line, err)
		}
		switch e.Kind {
		case progress.StepStarted, progress.StepCached, progress.StepDone, progress.StepFailed:
			_, instruction, _ := strings.Cut(e.Name, "] ")
			m[instruction] = append(m[instruction], e.Kind)
		case progress.Output, progress.Warning, progress.Info:
		}
	}
	return m
}

// TestOnlyWhatChanged changes one thing after the other, and looks which steps are made again.
func TestOnlyWhatChanged(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		base := "FROM " + busybox(t)
		const (
			src  = "COPY src /src"
			tool = "RUN wc -c /src/main > /tool"
			docs = "COPY docs /docs"
			last = "COPY --from=0 /tool /tool"
			ran  = "RUN cat /tool /docs/page > /all"
		)
		dockerfile := strings.Join([]string{base, src, tool, base, docs, last, ran, "LABEL a=$A"}, "\n")
		s := place(map[string]string{"Dockerfile": dockerfile, "src/main": "1234", "docs/page": "page\n", "unused": ""})
		expect := func(what string, again ...string) {
			t.Helper()
			got := s.steps("--destination", repo(t, "1"))
			for _, step := range []string{src, tool, docs, last, ran} {
				want := []progress.Kind{progress.StepCached}
				if slices.Contains(again, step) {
					want = []progress.Kind{progress.StepStarted, progress.StepDone}
				}
				// Of a stage that only cached steps read, nothing is heard.
				if !slices.Equal(got[step], want) && (len(got[step]) > 0 || len(want) > 1) {
					t.Errorf("%s: %s: %v, want %v", what, step, got[step], want)
				}
			}
		}
		expect("first", src, tool, docs, last, ran)
		expect("nothing")
		s.lay(map[string]string{"unused": "used by nobody", "src/main": "1234"})
		expect("a file that nobody copies, and the time of another")
		s.lay(map[string]string{"docs/page": "other\n"})
		expect("a file of the last stage", docs, last, ran)
		// What is made again to the same bytes lets what comes after it be.
		s.lay(map[string]string{"src/main": "4321"})
		expect("a file with the same outcome", src, tool)
		s.lay(map[string]string{"src/main": "54321"})
		expect("a file with another outcome", src, tool, last, ran)
		s.lay(map[string]string{"Dockerfile": strings.ReplaceAll(dockerfile, "a=$A", "a=2")})
		expect("a label")
		got := files(t, pull(t.Context(), t, repo(t, "1")))
		if got["all"] != "5 /src/main\nother\n" {
			t.Errorf("/all is %q", got["all"])
		}
	})
}

// TestStagesOverlap has stages that can only end when all of them run at the same time.
func TestStagesOverlap(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		g := newGate(t)
		const stages = 3
		var dockerfile strings.Builder
		for i := range stages {
			fmt.Fprintf(&dockerfile, "FROM %s AS s%d\nRUN echo %[2]d > /made && %s\n", busybox(t), i, g.wait)
		}
		dockerfile.WriteString("FROM " + busybox(t) + "\n")
		for i := range stages {
			fmt.Fprintf(&dockerfile, "COPY --from=s%d /made /made%[1]d\n", i)
		}
		s := place(map[string]string{"Dockerfile": dockerfile.String()})
		r := s.start(s.args("--destination", repo(t, "1"))...)
		g.arrive(stages)()
		if out, err := r.wait(); err != nil {
			t.Fatal(err, out)
		}
		got := files(t, pull(t.Context(), t, repo(t, "1")))
		for i := range stages {
			if name := fmt.Sprintf("made%d", i); got[name] != fmt.Sprintf("%d\n", i) {
				t.Errorf("/%s is %q", name, got[name])
			}
		}
	})
}

// TestImageIsABase builds on an image that was built before: as it was pushed, as another tool has copied it, and
// from a layout on disk.
func TestImageIsABase(t *testing.T) {
	t.Parallel()
	since := time.Now().Truncate(time.Second)
	s := newSite(t, map[string]string{"app": "app", "Dockerfile": "FROM " + busybox(t) + `
WORKDIR /srv
COPY --chown=app app .
RUN rm -r /home/app && mkdir /home/app && ln /srv/app /home/app/link && chmod 4711 /srv/app
ENV NAME=world
ONBUILD RUN echo hello $NAME > /tmp/greeting
USER app
`})
	layout := filepath.Join(s.dir, "layout")
	s.mustBuild("--destination", repo(t, "built"), "--oci-layout-path", layout)
	cmd := exec.CommandContext(t.Context(), "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false",
		"docker://"+repo(t, "built"), "docker://"+repo(t, "copied"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	for i, base := range []string{repo(t, "built"), repo(t, "copied"), "oci-layout://" + layout} {
		next := newSite(t, map[string]string{"Dockerfile": "FROM " + base + "\nUSER root\nRUN echo below >> app; rm /home/app/link\n"})
		next.mustBuild("--destination", repo(t, fmt.Sprint(i)))
		img := pull(t.Context(), t, repo(t, fmt.Sprint(i)))
		sameImages(t, pull(t.Context(), t, repo(t, "0")), img, since)
		got := files(t, img)
		if got["tmp/greeting"] != "hello world\n" || got["srv/app"] != "appbelow\n" {
			t.Errorf("on %s: files %v", base, got)
		}
	}
}
