package imagediff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// manifests compares the media types and annotations of two images.
func manifests(want, got v1.Image) ([]string, error) {
	w, err := want.Manifest()
	if err != nil {
		return nil, fmt.Errorf("wanted manifest: %w", err)
	}
	g, err := got.Manifest()
	if err != nil {
		return nil, fmt.Errorf("manifest got: %w", err)
	}
	var out []string
	out = values(out, "manifest.mediaType", string(w.MediaType), string(g.MediaType))
	out = values(out, "manifest.config.mediaType", string(w.Config.MediaType), string(g.Config.MediaType))
	for _, k := range union(w.Annotations, g.Annotations) {
		out = values(out, "manifest.annotations."+k, quoted(w.Annotations, k), quoted(g.Annotations, k))
	}
	for i := range min(len(w.Layers), len(g.Layers)) {
		what := fmt.Sprintf("manifest.layers[%d].mediaType", i)
		out = values(out, what, string(w.Layers[i].MediaType), string(g.Layers[i].MediaType))
	}
	return out, nil
}

// configs compares the whole config of two images, unknown fields included, but for layers, and for when times are
// unless exact is set.
func configs(want, got v1.Image, exact bool) ([]string, error) {
	w, err := config(want, exact)
	if err != nil {
		return nil, fmt.Errorf("wanted config: %w", err)
	}
	g, err := config(got, exact)
	if err != nil {
		return nil, fmt.Errorf("config got: %w", err)
	}
	return values(nil, "config", w, g), nil
}

func config(img v1.Image, exact bool) (map[string]any, error) {
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var c map[string]any
	if err := dec.Decode(&c); err != nil {
		return nil, err
	}
	timeless(c, exact)
	if root, ok := c["rootfs"].(map[string]any); ok {
		delete(root, "diff_ids")
	}
	if history, ok := c["history"].([]any); ok {
		for _, h := range history {
			if m, ok := h.(map[string]any); ok {
				timeless(m, exact)
			}
		}
	}
	return c, nil
}

// timeless leaves of a time of creation only whether there is one, unless exact is set.
func timeless(m map[string]any, exact bool) {
	if m["created"] == nil {
		delete(m, "created")
	} else if !exact {
		m["created"] = "some time"
	}
}

// values appends the differences between two JSON values to out. Absent is not the same as null or empty.
func values(out []string, at string, want, got any) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		for _, k := range union(w, g) {
			wv, inW := w[k]
			gv, inG := g[k]
			switch {
			case !inG:
				out = append(out, fmt.Sprintf("%s.%s: want %s, got none", at, k, text(wv)))
			case !inW:
				out = append(out, fmt.Sprintf("%s.%s: want none, got %s", at, k, text(gv)))
			default:
				out = values(out, at+"."+k, wv, gv)
			}
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) || slices.ContainsFunc(w, scalar) {
			break
		}
		for i := range w {
			out = values(out, fmt.Sprintf("%s[%d]", at, i), w[i], g[i])
		}
		return out
	}
	if !reflect.DeepEqual(want, got) {
		out = append(out, fmt.Sprintf("%s: want %s, got %s", at, text(want), text(got)))
	}
	return out
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

func text(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
