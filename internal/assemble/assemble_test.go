package assemble

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func at(n int64) *time.Time {
	t := time.Unix(n, 0).UTC()
	return &t
}

func TestHistoryTimes(t *testing.T) {
	full := func(created *time.Time) ocispec.History { return ocispec.History{Created: created} }
	empty := func(created *time.Time) ocispec.History { return ocispec.History{Created: created, EmptyLayer: true} }
	base, made := Layer{}, func(n int64) Layer { return Layer{Created: *at(n)} }
	for name, tc := range map[string]struct {
		entries []ocispec.History
		layers  []Layer
		epoch   time.Time
		want    []int64 // zero for none
	}{
		"metadata-before-first-new-layer-is-not-as-old-as-base": {
			[]ocispec.History{full(at(1)), empty(nil), full(nil), empty(nil)}, []Layer{base, made(9)}, time.Time{}, []int64{1, 9, 9, 9}},
		"metadata-only-takes-base-time": {[]ocispec.History{full(at(1)), empty(nil)}, []Layer{base}, time.Time{}, []int64{1, 1}},
		"later-metadata-takes-entry-before": {
			[]ocispec.History{full(at(1)), empty(nil), full(nil), empty(nil), full(nil)}, []Layer{base, made(5), made(7)}, time.Time{}, []int64{1, 5, 5, 5, 7}},
		"nothing-has-a-time":            {[]ocispec.History{empty(nil)}, nil, time.Time{}, []int64{0}},
		"epoch-is-for-all-that-is-new":  {[]ocispec.History{full(at(1)), empty(nil), full(nil)}, []Layer{base, made(9)}, *at(100), []int64{1, 100, 100}},
		"epoch-without-new-layer":       {[]ocispec.History{full(at(1)), empty(nil)}, []Layer{base}, *at(100), []int64{1, 100}},
		"base-without-history":          {[]ocispec.History{full(nil)}, []Layer{base, made(4)}, time.Time{}, []int64{4, 4}},
		"entries-too-many-become-empty": {[]ocispec.History{full(at(1)), full(at(2)), full(nil)}, []Layer{base, made(3)}, time.Time{}, []int64{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			got := history(tc.entries, tc.layers, tc.epoch)
			var times []int64
			fullEntries := 0
			for _, h := range got {
				if h.Created == nil {
					times = append(times, 0)
				} else {
					times = append(times, h.Created.Unix())
				}
				if !h.EmptyLayer {
					fullEntries++
				}
			}
			if diff := cmp.Diff(tc.want, times); diff != "" {
				t.Error(diff)
			}
			if fullEntries != len(tc.layers) {
				t.Errorf("%d entries with a layer for %d layers", fullEntries, len(tc.layers))
			}
		})
	}
}

func TestImageIsValid(t *testing.T) {
	config := &dockerspec.DockerOCIImage{}
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}, StartInterval: time.Second}
	config.History = []ocispec.History{{CreatedBy: "COPY x"}}
	for _, docker := range []bool{false, true} {
		l, err := random.Layer(100, map[bool]types.MediaType{false: types.OCILayer, true: types.DockerLayer}[docker])
		if err != nil {
			t.Fatal(err)
		}
		img, err := Image(config, []Layer{{l, *at(3)}}, Options{Docker: docker, Epoch: *at(1)})
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(img); err != nil {
			t.Error(err)
		}
		oneFamily(t, img, docker)
		raw, _ := img.RawConfigFile()
		var back dockerspec.DockerOCIImage
		if err := json.Unmarshal(raw, &back); err != nil || back.Config.Healthcheck.StartInterval != time.Second {
			t.Errorf("config lost the start interval: %s", raw)
		}
	}
}

func oneFamily(t *testing.T, img v1.Image, docker bool) {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, mt := range []types.MediaType{m.MediaType, m.Config.MediaType, m.Layers[0].MediaType} {
		isDocker := mt == types.DockerManifestSchema2 || mt == types.DockerConfigJSON || mt == types.DockerLayer
		if isDocker != docker {
			t.Errorf("media type %q in an image of the other family", mt)
		}
	}
}

func TestOneFamilyWhateverTheLayersSay(t *testing.T) {
	for _, docker := range []bool{false, true} {
		l, err := random.Layer(100, map[bool]types.MediaType{true: types.OCILayer, false: types.DockerLayer}[docker])
		if err != nil {
			t.Fatal(err)
		}
		img, err := Image(&dockerspec.DockerOCIImage{}, []Layer{{l, *at(3)}}, Options{Docker: docker})
		if err != nil {
			t.Fatal(err)
		}
		oneFamily(t, img, docker)
	}
}

func TestZstdNeedsOCI(t *testing.T) {
	l := static.NewLayer([]byte("x"), types.OCILayerZStd)
	if _, err := Image(&dockerspec.DockerOCIImage{}, []Layer{{l, *at(3)}}, Options{Docker: true}); err == nil {
		t.Error("a zstd layer got Docker's media types")
	}
}

// TestFields holds that further fields are at the top of the config, in an order of their own, and change nothing else.
func TestFields(t *testing.T) {
	l := static.NewLayer([]byte("x"), types.OCILayer)
	config := &dockerspec.DockerOCIImage{}
	config.Config.Env = []string{"A=1"}
	plain, err1 := Image(config, []Layer{{l, *at(3)}}, Options{})
	more, err2 := Image(config, []Layer{{l, *at(3)}}, Options{Fields: map[string]json.RawMessage{"z.last": []byte("1"), "a.first": []byte(`{"b":"<c>"}`)}})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := validate.Image(more, validate.Fast); err != nil {
		t.Error(err)
	}
	want, _ := plain.RawConfigFile()
	got, _ := more.RawConfigFile()
	if diff := cmp.Diff(string(want[:len(want)-1])+`,"a.first":{"b":"\u003cc\u003e"},"z.last":1}`, string(got)); diff != "" {
		t.Error(diff)
	}
}
