package main

import (
	"archive/tar"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// series is a build in several sizes.
type series struct {
	name string
	// unit is what a size counts.
	unit string
	// sizes are measured always, large only on demand.
	sizes, large []int
	// flat says that the work is the same in every size, so that its time and its memory must be, too.
	flat bool
	// again measures a second build by the same machine, in which one RUN of the Dockerfile is another.
	again bool
	// cached measures a build by an empty machine whose steps are all in a cache in the registry.
	cached bool
	// base makes the image "{{base}}" of a size; nil if there is none.
	base func(ctx context.Context, b *bench, ref string, n int) error
	// dockerfile is the text for a size, with {{registry}}, {{base}} and {{round}} as in workload.
	dockerfile func(n int) string
	// files writes the rest of the context; may be nil.
	files func(dir string, n int) error
}

// allSeries are the directions that builds grow in.
func allSeries() []series {
	thousands, many := []int{1000, 10000, 100000}, []int{700000}
	megabytes, more := []int{10, 100, 1000}, []int{8000}
	return []series{
		{name: "RUN steps", unit: "steps", sizes: []int{10, 100, 300}, dockerfile: smallRunsOnBusybox},
		{name: "steps that are in a cache", unit: "steps", sizes: []int{10, 100, 300}, cached: true,
			dockerfile: mixedSteps, files: func(dir string, _ int) error { return fewFiles(dir, "0") }},
		{name: "files in the base of a RUN", unit: "files", sizes: thousands, large: many, base: filesInBase,
			dockerfile: always("FROM {{base}}\nRUN echo {{round}} >/made\n")},
		{name: "files in the base of a COPY", unit: "files", sizes: thousands, large: many, base: filesInBase,
			dockerfile: always("FROM {{base}}\nCOPY Dockerfile /tree/00/copied\n")},
		{name: "files in a base that is there, another RUN", unit: "files", sizes: thousands, large: many, base: filesInBase,
			again: true, flat: true, dockerfile: always("FROM {{base}}\nRUN echo {{round}} >/made\n")},
		{name: "files copied from the context", unit: "files", sizes: thousands, large: many,
			files: func(dir string, n int) error { return manyFiles(n)(dir, "0") }, dockerfile: always("FROM scratch\nCOPY tree /tree\n")},
		{name: "files made by a RUN", unit: "files", sizes: thousands, large: many, dockerfile: makeFiles},
		{name: "files of the base changed by a RUN", unit: "files", sizes: thousands, large: many, base: filesInBase,
			dockerfile: always("FROM {{base}}\nRUN find /tree -type f | while read -r f; do echo {{round}} >>$f; done\n")},
		{name: "MB in a layer of a RUN", unit: "MB", sizes: megabytes, large: more, dockerfile: makeMegabytes},
		{name: "MB in the base of a RUN", unit: "MB", sizes: megabytes, large: more, base: megabytesInBase,
			dockerfile: always("FROM {{base}}\nRUN echo {{round}} >/made\n")},
		{name: "stages that sleep", unit: "stages", sizes: []int{1, 2, 4, 8}, flat: true, dockerfile: sleepingStages},
	}
}

func always(text string) func(int) string {
	return func(int) string { return text }
}

func smallRunsOnBusybox(n int) string {
	return strings.Replace(smallRuns(n), "/base/debian:1", "/base/busybox:1", 1)
}

// makeFiles makes small files, a thousand in a directory, with a shell that starts no process for any.
func makeFiles(n int) string {
	return fmt.Sprintf("FROM {{registry}}/base/busybox:1\n"+
		"RUN d=0; while [ $d -lt %d ]; do mkdir -p /made/$d; i=0; while [ $i -lt 1000 ]; do echo {{round}} $d $i >/made/$d/$i; "+
		"i=$((i+1)); done; d=$((d+1)); done\n", n/1000)
}

// makeMegabytes writes one file of the libraries of a Debian, which compress as programs do, again and again.
func makeMegabytes(n int) string {
	return fmt.Sprintf("FROM {{registry}}/base/debian:1\n"+
		"RUN echo {{round}} >/made; while cat /usr/lib/x86_64-linux-gnu/lib*; do :; done 2>/dev/null | head -c %d000000 >>/made\n", n)
}

// filesInBase adds a layer of small files to busybox.
func filesInBase(ctx context.Context, b *bench, ref string, n int) error {
	busybox, err := parts.Busybox(ctx, b.dir)
	if err != nil {
		return err
	}
	img, err := b.withLayer(busybox, func(w *tar.Writer) error {
		for i := range n {
			text := strings.Repeat(fmt.Sprintf("file %d\n", i), 1+i%97)
			h := &tar.Header{Name: treeFile(i), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			if _, err := w.Write([]byte(text)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return parts.Push(ctx, ref, img)
}

// megabytesInBase builds the base with gobuild, which compresses with all cores.
func megabytesInBase(ctx context.Context, b *bench, ref string, n int) error {
	dir := filepath.Join(b.dir, fmt.Sprint("large-base-", n))
	w := workload{dockerfile: makeMegabytes(n)}
	if err := w.lay(filepath.Join(dir, "context"), b.registry.Addr, "base"); err != nil {
		return err
	}
	g := &gobuild{program: b.gobuild, registry: b.registry.Addr}
	_, err := g.build(ctx, job{context: filepath.Join(dir, "context"), destination: ref, state: filepath.Join(dir, "state")})
	return err
}
