package solve

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// TestKeptIsTheSameHitOrMiss holds that what is said of a layer does not depend on how it came here: made, found by what its
// step is defined to see, or found by what the step really saw.
func TestKeptIsTheSameHitOrMiss(t *testing.T) {
	w := newWorld(t, map[string]string{"f": "1", "g": "1"})
	base, err := random.Image(10, 2)
	if err != nil {
		t.Fatal(err)
	}
	w.bases["docker.io/library/base:latest"] = base
	text := func(early string) string {
		return "FROM scratch AS b\nARG V=" + early + "\nRUN put /same x\nFROM base\nCOPY --from=b /same /same\nRUN none\nWORKDIR /w\n" +
			"ENV A=1\nCOPY --link f /f\nCOPY g /g\n"
	}
	made, _ := w.mustBuild(text("1"))
	found, ran := w.mustBuild(text("1"))
	if len(ran) != 1 {
		t.Errorf("ran %q", ran)
	}
	want, got := keptOf(t, made), keptOf(t, found)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("made, and found: %s", diff)
	}
	for i, kind := range []cache.Kind{cache.KindCopy, cache.KindRun, cache.KindOther, cache.KindCopy, cache.KindCopy} {
		k := want[2+i]
		if k.Kind != kind || k.Definition == (cache.Key{}) || k.Content == (cache.Key{}) || k.Empty != (i == 1) || k.Linked != (i == 3) {
			t.Errorf("layer %d is kept as %+v", 2+i, k)
		}
	}
	// The first stage has another definition and comes to the same.
	later, _ := w.mustBuild(text("2"))
	again, _ := w.mustBuild(text("2"))
	byContent := keptOf(t, later)
	if diff := cmp.Diff(byContent, keptOf(t, again)); diff != "" {
		t.Errorf("found by content, and by definition: %s", diff)
	}
	for i := 2; i < 5; i++ {
		if byContent[i].Definition == want[i].Definition || byContent[i].Content != want[i].Content {
			t.Errorf("layer %d is kept as %+v, and was as %+v", i, byContent[i], want[i])
		}
	}
}

// keptOf is what layers are kept as; the base's two as nothing.
func keptOf(t *testing.T, layers []Layer) (list []Kept) {
	t.Helper()
	for i, l := range layers {
		if (l.Kept == nil) != (i < 2) {
			t.Fatalf("layer %d is kept as %+v", i, l.Kept)
		}
		if l.Kept == nil {
			list = append(list, Kept{})
			continue
		}
		list = append(list, *l.Kept)
	}
	return list
}
