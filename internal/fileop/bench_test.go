package fileop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gobuild-dev/gobuild/internal/fileop"
)

// BenchmarkCopy copies 40,000 files of 400 directories; contents are not read.
func BenchmarkCopy(b *testing.B) {
	const dirs, files = 400, 100
	dir := b.TempDir()
	for d := range dirs {
		sub := filepath.Join(dir, fmt.Sprintf("d%d/s%d", d%20, d))
		must(b, os.MkdirAll(sub, 0o755))
		for f := range files {
			must(b, os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%d", f)), []byte("x"), 0o600))
		}
	}
	c := fileop.Copy{Sources: []fileop.Source{{Tree: diskTree(b, dir), Path: "."}}, Dest: "/app/"}
	b.Run("select", func(b *testing.B) {
		for b.Loop() {
			selectFiles(b, c)
		}
	})
	s := selectFiles(b, c)
	b.Run("digest", func(b *testing.B) {
		for b.Loop() {
			_, err := selectFiles(b, c).Digest(b.Context())
			must(b, err)
		}
	})
	again := layers(b, c)
	for name, changes := range map[string]func() (n int){
		"changes": func() (n int) {
			for _, err := range s.Changes(b.Context(), nil) {
				must(b, err)
				n++
			}
			return n
		},
		"unchanged": func() (n int) {
			for _, err := range s.Changes(b.Context(), again) {
				must(b, err)
				n++
			}
			return n
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				changes()
			}
		})
	}
}
