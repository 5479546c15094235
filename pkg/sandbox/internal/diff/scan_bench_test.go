package diff_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/diff"
)

// BenchmarkScan scans as many files as a small Debian has, some directories down.
func BenchmarkScan(b *testing.B) {
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
	for b.Loop() {
		if _, err := diff.Scan(b.Context(), root, diff.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
