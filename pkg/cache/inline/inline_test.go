package inline_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
	"github.com/gobuild-dev/gobuild/pkg/cache/inline"
)

// image is one of a base, a layer, an empty one and a linked one, whose config may be changed on the way.
type image struct {
	v1.Image
	config []byte
}

func (i image) RawConfigFile() ([]byte, error) { return i.config, nil }

func at(n int64) time.Time { return time.Unix(n, 5).UTC() }

func newImage(t *testing.T) image {
	t.Helper()
	var adds []mutate.Addendum
	for i, by := range []string{"base", "RUN a", "RUN true", "COPY --link b"} {
		adds = append(adds, mutate.Addendum{
			Layer: cachetest.Layer("layer " + by), History: v1.History{Created: v1.Time{Time: at(int64(i))}, CreatedBy: by},
		}, mutate.Addendum{History: v1.History{EmptyLayer: true, CreatedBy: "ENV"}})
	}
	img, err := mutate.Append(empty.Image, adds...)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	field, err := inline.Encode(layers, steps())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]json.RawMessage{inline.Field: field}
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	return image{img, raw}
}

func steps() []inline.Step {
	return []inline.Step{
		{Layer: 1, Definition: cachetest.Key("a"), Content: cachetest.Key("a's content")},
		{Layer: 2, Definition: cachetest.Key("true"), Empty: true},
		{Layer: 3, Definition: cachetest.Key("b"), Content: cachetest.Key("b"), Linked: true},
	}
}

func TestEntriesComeBack(t *testing.T) {
	img := newImage(t)
	entries, err := inline.Entries(img)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4 {
		t.Errorf("%d entries, want 4: %v", len(entries), entries)
	}
	base, _ := layers[0].DiffID()
	a, same := entries[cachetest.Key("a")], entries[cachetest.Key("a's content")]
	if a != same || a.Layer != layers[1] || !a.Created.Equal(at(1)) || a.Below != base || a.Step != "RUN a" ||
		a.Content != cachetest.Key("a's content") {
		t.Errorf("by definition %+v, by content %+v", a, same)
	}
	if e := entries[cachetest.Key("true")]; e.Layer != nil || !e.Created.Equal(at(2)) || e.Below == base || e.Below == (v1.Hash{}) {
		t.Errorf("a step without changes is %+v", e)
	}
	if e := entries[cachetest.Key("b")]; e.Layer != layers[3] || !e.Created.Equal(at(3)) || e.Below != (v1.Hash{}) {
		t.Errorf("a linked step is %+v", e)
	}
}

func TestImageWithoutTheField(t *testing.T) {
	img := newImage(t)
	img.config, _ = img.Image.RawConfigFile()
	if entries, err := inline.Entries(img); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestNothingThatIsNotOursIsBelieved changes what a tool or an accident may change.
func TestNothingThatIsNotOursIsBelieved(t *testing.T) {
	diffID, _ := cachetest.Layer("layer RUN a").DiffID()
	key := cachetest.Key("a").String()
	for name, tt := range map[string]struct{ from, to, want string }{
		"other-layers":         {diffID.String(), "sha256:" + strings.Repeat("0", 64), "other layers"},
		"diff-id-is-none":      {diffID.String(), "sha256:0", "decode config"},
		"layer-that-is-not":    {`"layer":3`, `"layer":4`, "no layer 4"},
		"layer-below-zero":     {`"layer":3`, `"layer":-1`, "no layer -1"},
		"key-is-none":          {key, key[1:], "parse key"},
		"content-is-none":      {cachetest.Key("a's content").String(), "x", "parse key"},
		"field-of-another-day": {`"steps":`, `"stairs":`, "unknown field"},
		"field-is-no-object":   {`"dev.gobuild.cache.v1":{`, `"dev.gobuild.cache.v1":7,"x":{`, "unmarshal"},
		"history-is-too-short": {`"created_by":"RUN a"`, `"created_by":"RUN a","empty_layer":true`, "history"},
		"config-is-no-json":    {`{`, ``, "decode config"},
	} {
		img := newImage(t)
		if !bytes.Contains(img.config, []byte(tt.from)) {
			t.Fatalf("%s: no %s in %s", name, tt.from, img.config)
		}
		img.config = bytes.Replace(img.config, []byte(tt.from), []byte(tt.to), 1)
		if entries, err := inline.Entries(img); err == nil || !strings.Contains(err.Error(), tt.want) || len(entries) != 0 {
			t.Errorf("%s: %v, %v, want an error with %q", name, entries, err, tt.want)
		}
	}
}

// TestLayersThatLieElsewhere holds that a layer that the registry need not have is no result.
func TestLayersThatLieElsewhere(t *testing.T) {
	img := newImage(t)
	img.Image = foreign{img.Image}
	entries, err := inline.Entries(img)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[cachetest.Key("true")].Step != "RUN true" {
		t.Errorf("%v", entries)
	}
}

type foreign struct{ v1.Image }

type foreignLayer struct{ v1.Layer }

func (foreignLayer) MediaType() (types.MediaType, error) { return types.DockerForeignLayer, nil }

func (f foreign) Layers() ([]v1.Layer, error) {
	layers, err := f.Image.Layers()
	for i := range layers {
		layers[i] = foreignLayer{layers[i]}
	}
	return layers, err
}

// TestSameInputsSameBytes holds that nothing but the arguments goes into the field, and no more than it has to.
func TestSameInputsSameBytes(t *testing.T) {
	layers := []v1.Layer{cachetest.Layer("x")}
	s := []inline.Step{{Definition: cache.Key{1}, Content: cache.Key{1}}}
	one, err1 := inline.Encode(layers, s)
	two, err2 := inline.Encode(layers, s)
	if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
		t.Fatalf("%s, %v; %s, %v", one, err1, two, err2)
	}
	diffID, _ := layers[0].DiffID()
	want := `{"chain":"` + diffID.String() + `","steps":[{"layer":0,"definition":"01` + strings.Repeat("0", 62) + `"}]}`
	if string(one) != want {
		t.Errorf("%s, want %s", one, want)
	}
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte(`{"rootfs":{"diff_ids":[]},"dev.gobuild.cache.v1":{"chain":":","steps":[{"layer":0,"definition":""}]}}`))
	f.Add([]byte(`{"rootfs":{"diff_ids":["sha256:x"]},"dev.gobuild.cache.v1":null}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		entries, err := inline.Entries(image{empty.Image, config})
		if len(entries) > 0 {
			t.Errorf("an image without layers has %v, %v", entries, err)
		}
	})
}
