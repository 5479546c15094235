package integration

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/integration/internal/casefile"
	"github.com/gobuild-dev/gobuild/integration/internal/imagediff"
	"github.com/gobuild-dev/gobuild/integration/internal/parts"
	"github.com/gobuild-dev/gobuild/integration/internal/randomcase"
)

var (
	oracleTime = flag.Duration("oracle.time", 0, "how long to compare random builds; 0 compares a few")
	oracleSeed = flag.Uint64("oracle.seed", 1, "seed of the first random build")
)

// TestRandomCases builds random cases with BuildKit and gobuild. Where they differ it prints the smallest case
// that it finds, to be kept in cases/ under the name of what it shows.
func TestRandomCases(t *testing.T) {
	const few, batch = 20, 8
	end := time.Now().Add(*oracleTime)
	comparer := &imagediff.Comparer{}
	for seed := *oracleSeed; seed < *oracleSeed+few || time.Now().Before(end); seed += batch {
		t.Run(fmt.Sprintf("from-%d", seed), func(t *testing.T) {
			for i := range uint64(batch) {
				t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
					t.Parallel()
					randomBuild(t, comparer, seed+i)
				})
			}
		})
	}
}

func randomBuild(t *testing.T, comparer *imagediff.Comparer, seed uint64) {
	// One driver after the other: overlayfs breaks hard links between layers, plain directories do not.
	r := &randomRun{t: t, comparer: comparer, seed: seed, driver: "overlay"}
	if seed%2 == 0 {
		r.driver = "directory"
	}
	c := randomcase.New(seed, randomcase.Options{HardLinks: r.driver == "overlay"})
	diffs := r.differences(c)
	if len(diffs) == 0 {
		return
	}
	c, diffs = r.shrink(c, diffs)
	t.Errorf("seed %d differs with driver %s:\n%s", seed, r.driver, c.Text())
	for _, d := range diffs {
		t.Error(d)
	}
}

// randomRun compares the builds of one seed.
type randomRun struct {
	t        *testing.T
	comparer *imagediff.Comparer
	seed     uint64
	driver   string
	builds   int
}

// shrink leaves out what the difference does not need, for as long as that is worth waiting for.
func (r *randomRun) shrink(c *randomcase.Case, diffs []string) (*randomcase.Case, []string) {
	const patience = 120 // builds
	for again := true; again; {
		again = false
		for smaller := range c.Smaller() {
			if r.builds >= patience {
				return c, diffs
			}
			if d := r.differences(smaller); len(d) > 0 {
				c, diffs, again = smaller, d, true
				break
			}
		}
	}
	return c, diffs
}

// differences builds a case with both. None are returned when both refuse it.
func (r *randomRun) differences(rc *randomcase.Case) []string {
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute) // should a RUN wait for something
	defer cancel()
	r.builds++
	c, err := casefile.Parse(fmt.Sprintf("random-%d-%d.txtar", r.seed, r.builds), rc.Text())
	if err != nil {
		r.t.Fatalf("%v in\n%s", err, rc.Text())
	}
	job := lay(r.t, c, r.t.TempDir())
	to := registry(r.t).Addr + "/cases/" + c.Name
	job.Destination = to + ":oracle"
	job.NoCache = true // BuildKit reuses a copy of the same files whatever the time of their directory
	wantErr := buildkit(r.t).Build(ctx, job)
	job.Destination, job.NoCache = to+":got", false
	gotErr := r.gobuild(ctx, job)
	switch {
	case wantErr != nil && gotErr != nil:
		return nil
	case (wantErr != nil || gotErr != nil) && deliberateError(wantErr, gotErr):
		return nil
	case wantErr != nil:
		return []string{fmt.Sprintf("BuildKit fails: %v", wantErr)}
	case gotErr != nil:
		return []string{fmt.Sprintf("gobuild fails: %v", gotErr)}
	}
	o := imagediff.Options{Since: world.since}
	diffs, err := r.comparer.Compare(pull(ctx, r.t, to+":oracle"), pull(ctx, r.t, to+":got"), o)
	if err != nil {
		r.t.Fatal(err)
	}
	diffs = slices.DeleteFunc(slices.Clone(diffs), deliberate)
	return append(diffs, r.rebuilt(ctx, job)...)
}

// deliberate says whether a difference is the entry "images without history" of docs/differences.md.
func deliberate(diff string) bool { return diff == "config.history: want null, got none" }

// deliberateError says whether that only one fails is an entry of docs/differences.md: "links that lead to what is not sent" or
// "patterns in directories" or "directories that are not selected" for an error of BuildKit, "unknown owners" for one of gobuild.
func deliberateError(want, got error) bool {
	if want != nil {
		return strings.Contains(want.Error(), "failed to calculate checksum") || strings.Contains(want.Error(), "failed to solve: lstat /") ||
			strings.Contains(want.Error(), "failed to stat") && strings.Contains(want.Error(), "not a directory")
	}
	return strings.Contains(got.Error(), "is not in /etc/passwd") || strings.Contains(got.Error(), "is not in /etc/group")
}

// rebuilt says whether a second build gives another digest.
func (r *randomRun) rebuilt(ctx context.Context, j parts.Job) []string {
	first, err := pull(ctx, r.t, j.Destination).Digest()
	if err != nil {
		r.t.Fatal(err)
	}
	j.Destination += "-again"
	if err := r.gobuild(ctx, j); err != nil {
		return []string{fmt.Sprintf("gobuild fails a second time: %v", err)}
	}
	second, err := pull(ctx, r.t, j.Destination).Digest()
	if err != nil {
		r.t.Fatal(err)
	}
	if first != second {
		return []string{fmt.Sprintf("a second time gives %v; the first gave %v", second, first)}
	}
	return nil
}

// gobuild builds with the driver of the run.
func (r *randomRun) gobuild(ctx context.Context, j parts.Job) error {
	work := filepath.Join(world.dir, "work-random-"+r.driver)
	_, err := runGobuild(ctx, r.t, append(args(j, work), "--isolation", r.driver)...)
	return err
}
