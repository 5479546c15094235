package randomcase

import (
	"bytes"
	"testing"

	"github.com/gobuild-dev/gobuild/integration/internal/casefile"
)

// TestCasesCanBeLaid holds that every case, and all that it is made smaller to, is one that package casefile takes.
func TestCasesCanBeLaid(t *testing.T) {
	for seed := range uint64(10) {
		o := Options{HardLinks: seed%2 == 0}
		c := New(seed, o)
		if !bytes.Equal(c.Text(), New(seed, o).Text()) {
			t.Fatalf("seed %d makes different cases", seed)
		}
		lay(t, c)
		for smaller := range c.Smaller() {
			if len(smaller.parts) >= len(c.parts) {
				t.Fatalf("seed %d: %d parts are not fewer than %d", seed, len(smaller.parts), len(c.parts))
			}
			lay(t, smaller)
		}
	}
}

func lay(t *testing.T, c *Case) {
	t.Helper()
	parsed, err := casefile.Parse("random.txtar", c.Text())
	if err == nil {
		_, err = parsed.Lay(t.TempDir(), map[string]string{"busybox": "host/image"})
	}
	if err != nil {
		t.Fatalf("%v in\n%s", err, c.Text())
	}
}
