package diff_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
)

// smallDebian makes as many files as a small Debian has, some directories down.
func smallDebian(b *testing.B) string {
	root := filepath.Join(b.TempDir(), "some", "directories", "down", "root")
	for d := range 700 {
		dir := filepath.Join(root, fmt.Sprint(d%10), fmt.Sprint(d%100/10), fmt.Sprint(d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range 10 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(f)), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return root
}

func scan(b *testing.B, dir string) *diff.Record {
	r, err := diff.Scan(b.Context(), dir, diff.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func BenchmarkScan(b *testing.B) {
	root := smallDebian(b)
	for b.Loop() {
		scan(b, root)
	}
}

// BenchmarkRecord is what a step takes besides the scan when it has changed nothing.
func BenchmarkRecord(b *testing.B) {
	root := smallDebian(b)
	r := scan(b, root)
	for b.Loop() {
		var file bytes.Buffer
		if _, err := r.WriteTo(&file); err != nil {
			b.Fatal(err)
		}
		before, err := diff.ReadRecord(&file)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := diff.Doubtful(root, before, r); err != nil {
			b.Fatal(err)
		}
		for _, err := range diff.Compare(b.Context(), root, before, r, nil, diff.Options{}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
