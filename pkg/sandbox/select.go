package sandbox

import (
	"context"
	"fmt"
	"strings"
)

// Auto is the name by which Select takes the first driver that works.
const Auto = "auto"

// Select returns the driver named want after it has proved to work, or for Auto the first that does.
// The error says for each driver that was tried why it does not, and what would help.
func Select(ctx context.Context, drivers []Driver, want string) (Driver, error) {
	var names, reasons []string
	for _, d := range drivers {
		names = append(names, d.Name())
		if want != Auto && want != d.Name() {
			continue
		}
		err := d.Probe(ctx)
		if err == nil {
			return d, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", d.Name(), err))
	}
	if len(reasons) == 0 {
		return nil, fmt.Errorf("select isolation: unknown %q: want %s or %s", want, Auto, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("select isolation: nothing can run steps here: %s", strings.Join(reasons, "; "))
}
