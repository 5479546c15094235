package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/unfit"
)

// Auto is the name by which Select takes the first driver that works.
const Auto = "auto"

// Select returns the driver named want after it has proved to work, or for Auto the first that does.
// The error says for each driver that was tried why it does not, and what would help.
func Select(ctx context.Context, drivers []Driver, want string) (Driver, error) {
	var names []string
	tried := &refusals{}
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
		tried.add(d.Name(), err)
	}
	if len(tried.reasons) == 0 {
		return nil, fmt.Errorf("select isolation: unknown %q: want %s or %s", want, Auto, strings.Join(names, ", "))
	}
	return nil, tried
}

// Likely returns the driver that Select will most likely return, to be used meanwhile with what can be undone, or nil.
func Likely(drivers []Driver, want string) Driver {
	for _, d := range drivers {
		if want == Auto || want == d.Name() {
			if e, ok := d.(Eager); ok && e.Likely() {
				return d
			}
			return nil // the one after it is chosen only when this one was tried
		}
	}
	return nil
}

// refusals is the error of Select: one line on what is missing here, and one on the smallest changes that would help.
type refusals struct {
	reasons  []string
	drivers  [][]string // that have the reason of the same index
	remedies []string
}

func (r *refusals) add(driver string, err error) {
	why := err.Error()
	var e *unfit.Error
	if errors.As(err, &e) {
		why = e.Why
		if !slices.Contains(r.remedies, e.Remedy) {
			r.remedies = append(r.remedies, e.Remedy)
		}
	}
	i := slices.Index(r.reasons, why)
	if i < 0 {
		i = len(r.reasons)
		r.reasons, r.drivers = append(r.reasons, why), append(r.drivers, nil)
	}
	r.drivers[i] = append(r.drivers[i], driver)
}

func (r *refusals) Error() string {
	const most = 3 // remedies
	parts := make([]string, len(r.reasons))
	for i, why := range r.reasons {
		parts[i] = strings.Join(r.drivers[i], ", ") + ": " + why
	}
	text := "select isolation: nothing can run steps here: " + strings.Join(parts, "; ")
	remedies := append(slices.Clone(r.remedies), "copy what the step makes from an image that was built elsewhere")
	return text + "\nany of these helps: " + strings.Join(remedies[:min(len(remedies), most)], "; ")
}
