package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// workload is a Dockerfile and its context. {{registry}} stands for the registry's address, {{round}} for the round: what
// it changes makes each round new work for both programs.
type workload struct {
	name       string
	dockerfile string
	files      func(dir, round string) error
	// cached says that each program has built this before, into a cache in the registry: nothing has changed since, but what
	// change does, which is put into the cache, too, as jobs do.
	cached bool
	change func(dir, round string) error
	// latency is added to each request to the registry.
	latency time.Duration
	// inPlace says that it is worth building in a container without privileges, too.
	inPlace bool
	// floor is a time that no builder can do without; 0 says nothing.
	floor time.Duration
}

func workloads() []workload {
	return []workload{
		{name: "30-small-runs", inPlace: true, dockerfile: smallRuns(30)},
		{name: "copy-only-240mb-base", files: fewFiles, dockerfile: copyOnly},
		{name: "600mb-run", dockerfile: `FROM {{registry}}/base/debian:1
RUN mkdir /big && i=0; while [ "$(du -sm /big | cut -f1)" -lt 600 ]; do i=$((i+1)); cp -a /usr /big/$i; done; echo {{round}} >/round
`},
		{name: "40000-files-then-run", files: manyFiles(40000), dockerfile: `FROM {{registry}}/base/debian:1
COPY tree /tree
RUN find /tree -type f | wc -l >/count
`},
		{name: "3-runs-on-240mb", inPlace: true, dockerfile: `FROM {{registry}}/base/big:1
RUN echo {{round}} >/one
RUN mkdir /data && cp /opt/1/liba* /data
RUN rm /opt/2/libb* && echo two >>/one
`},
		{name: "go-two-stages", files: goProgram, dockerfile: goTwoStages},
		{name: "four-sleeping-stages", dockerfile: sleepingStages(4), floor: 3 * time.Second},
		{name: "copy-only-all-changed", cached: true, change: fewFiles, files: fewFiles, dockerfile: copyOnly},
		{name: "30-steps-cached", cached: true, files: fewFiles, dockerfile: mixedSteps(30)},
		{name: "go-cached", cached: true, files: goProgram, dockerfile: goTwoStages},
		{name: "go-one-file-changed", cached: true, change: goProgram, files: goProgram, dockerfile: goTwoStages},
		{name: "100-steps-far-away", cached: true, latency: 50 * time.Millisecond, files: fewFiles, dockerfile: mixedSteps(100)},
	}
}

// copyOnly needs nothing of its base but the list of its files.
const copyOnly = `FROM {{registry}}/base/big:1
COPY app /opt/app
COPY conf /etc/conf
CMD ["/opt/app/run"]
`

// goTwoStages compiles a program in one stage and keeps it alone in the other.
const goTwoStages = `FROM {{registry}}/base/go:1 AS build
ENV PATH=/usr/local/go/bin:/usr/bin:/bin GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS=-buildvcs=false
WORKDIR /src
COPY go.mod ./
RUN go version
COPY . .
RUN go build -o /out/app .
FROM {{registry}}/base/busybox:1
COPY --from=build /out/app /usr/bin/app
CMD ["app"]
`

// mixedSteps runs, copies and sets variables; it is the same in each round.
func mixedSteps(n int) string {
	var b strings.Builder
	b.WriteString("FROM {{registry}}/base/debian:1\n")
	for i := range n {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, "RUN echo %d >/step-%d\n", i, i)
		case 1:
			fmt.Fprintf(&b, "COPY app/%d /copies/%d\n", i%20, i)
		case 2:
			fmt.Fprintf(&b, "ENV STEP_%d=%d\n", i, i)
		}
	}
	return b.String()
}

func smallRuns(n int) string {
	var b strings.Builder
	b.WriteString("FROM {{registry}}/base/debian:1\n")
	for i := range n {
		fmt.Fprintf(&b, "RUN echo {{round}} %d >/step-%d\n", i, i)
	}
	return b.String()
}

func sleepingStages(n int) string {
	var stages, copies strings.Builder
	for i := range n {
		fmt.Fprintf(&stages, "FROM {{registry}}/base/busybox:1 AS s%d\nRUN sleep 3; echo {{round}} >/made-%d\n", i, i)
		fmt.Fprintf(&copies, "COPY --from=s%d /made-%d /\n", i, i)
	}
	return stages.String() + "FROM {{registry}}/base/busybox:1\n" + copies.String()
}

// lay writes the context.
func (w workload) lay(dir, registry, round string) error {
	text := strings.NewReplacer("{{registry}}", registry, "{{round}}", round).Replace(w.dockerfile)
	if err := write(filepath.Join(dir, "Dockerfile"), text); err != nil {
		return err
	}
	if w.files == nil {
		return nil
	}
	return w.files(dir, round)
}

func fewFiles(dir, round string) error {
	for i := range 20 {
		if err := write(filepath.Join(dir, "app", fmt.Sprint(i)), strings.Repeat(fmt.Sprintf("line %d of %s\n", i, round), 5000)); err != nil {
			return err
		}
	}
	return write(filepath.Join(dir, "conf"), "round="+round+"\n")
}

func goProgram(dir, round string) error {
	if err := write(filepath.Join(dir, "go.mod"), "module example.com/app\n\ngo 1.24\n"); err != nil {
		return err
	}
	return write(filepath.Join(dir, "main.go"), fmt.Sprintf(`package main

import (
	"fmt"
	"net/http"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "round %s") })
	http.ListenAndServe("127.0.0.1:8080", nil)
}
`, round))
}

func manyFiles(n int) func(dir, round string) error {
	return func(dir, round string) error {
		for i := range n {
			if err := write(filepath.Join(dir, treeFile(i)), strings.Repeat(fmt.Sprintf("file %d of round %s\n", i, round), 1+i%97)); err != nil {
				return err
			}
		}
		return nil
	}
}

// treeFile is the path of a file among many.
func treeFile(i int) string { return fmt.Sprintf("tree/%02d/%02d/f%d.txt", i%100, i/100%20, i) }

func write(file, data string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(data), 0o644)
}
