// Package inline keeps results of steps in the image that they are layers of, as BuildKit's inline cache does: the image's
// config says which key each layer has, so whoever can pull the image can build on from it. Nothing is kept besides the
// image, and only of the steps that it consists of.
//
// What is added to the config is one field of its own, which others ignore. It has nothing but keys, which are hashes: when
// a layer was made stands in the history, and where it is in the manifest. So it is the same whenever the image is.
package inline

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// Field is the field at the top of an image's config. The number in it changes when an old reader would take a new value for
// something that it is not.
const Field = "dev.gobuild.cache.v1"

// Step says what one layer of an image is the result of.
type Step struct {
	// Layer is the layer's number, counted from 0, the lowest.
	Layer int
	// Definition and Content are its keys. Content may be zero, which is not known.
	Definition, Content cache.Key
	// Linked says that the step was made without a look at the layers below it.
	Linked bool
	// Empty says that the step changed no file: its layer is there for the sake of the history alone.
	Empty bool
}

// data is what the field holds.
type data struct {
	// Chain is the chain ID of all layers (image-spec, config.md): who adds a layer to an image, or takes one away, and
	// leaves the field as it is, does not make it say something about other layers.
	Chain string     `json:"chain"`
	Steps []dataStep `json:"steps"`
}

type dataStep struct {
	Layer      int    `json:"layer"`
	Definition string `json:"definition"`
	Content    string `json:"content,omitempty"` // left out when it is the same
	Linked     bool   `json:"linked,omitempty"`
	Empty      bool   `json:"empty,omitempty"`
}

// Encode returns the field's value for an image of layers, the lowest first.
func Encode(layers []v1.Layer, steps []Step) (json.RawMessage, error) {
	chains, err := chainIDs(len(layers), func(i int) (v1.Hash, error) { return layers[i].DiffID() })
	if err != nil {
		return nil, fmt.Errorf("encode inline cache: %w", err)
	}
	d := data{Chain: chains[len(layers)].String(), Steps: []dataStep{}}
	for _, s := range steps {
		e := dataStep{Layer: s.Layer, Definition: s.Definition.String(), Linked: s.Linked, Empty: s.Empty}
		if s.Content != (cache.Key{}) && s.Content != s.Definition {
			e.Content = s.Content.String()
		}
		d.Steps = append(d.Steps, e)
	}
	return json.Marshal(d)
}

// chainIDs returns what the lowest 0, 1, ... n layers contain together; the first is zero.
func chainIDs(n int, diffID func(int) (v1.Hash, error)) ([]v1.Hash, error) {
	chains := make([]v1.Hash, n+1)
	for i := range n {
		h, err := diffID(i)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			sum := sha256.Sum256([]byte(chains[i].String() + " " + h.String()))
			h = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
		}
		chains[i+1] = h
	}
	return chains, nil
}

// config is what is read of an image's config.
type config struct {
	History []struct {
		Created    time.Time `json:"created"`
		CreatedBy  string    `json:"created_by"`
		EmptyLayer bool      `json:"empty_layer"`
	} `json:"history"`
	RootFS struct {
		DiffIDs []v1.Hash `json:"diff_ids"`
	} `json:"rootfs"`
	Data *json.RawMessage `json:"dev.gobuild.cache.v1"`
}

// Entries returns the results of steps that img has, none when its config has no such field. The layers are those of img,
// unread. A field that is not what Encode writes, or is that of an image with other layers, is an error. An entry was created
// when the history says, which is the time of SOURCE_DATE_EPOCH where the image was given that.
func Entries(img v1.Image) (map[cache.Key]cache.Entry, error) {
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	var c config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("decode config: %w", err)
	}
	if c.Data == nil {
		return nil, nil
	}
	entries, err := c.entries(img)
	if err != nil {
		return nil, fmt.Errorf("decode inline cache: %w", err)
	}
	return entries, nil
}

func (c *config) entries(img v1.Image) (map[cache.Key]cache.Entry, error) {
	var d data
	dec := json.NewDecoder(bytes.NewReader(*c.Data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	ids := c.RootFS.DiffIDs
	chains, err := chainIDs(len(ids), func(i int) (v1.Hash, error) { return ids[i], nil })
	if err != nil {
		return nil, err
	}
	if d.Chain != chains[len(ids)].String() || len(layers) != len(ids) {
		return nil, errors.New("it is that of an image with other layers")
	}
	made := c.made()
	if len(made) != len(layers) {
		return nil, fmt.Errorf("the history is that of %d layers, and there are %d", len(made), len(layers))
	}
	entries := map[cache.Key]cache.Entry{}
	for _, s := range d.Steps {
		if s.Layer < 0 || s.Layer >= len(layers) {
			return nil, fmt.Errorf("there is no layer %d", s.Layer)
		}
		e := made[s.Layer]
		if !s.Linked {
			e.Below = chains[s.Layer]
		}
		if !s.Empty {
			e.Layer = layers[s.Layer]
		}
		if err := s.add(entries, e); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// made is what the history says of each layer.
func (c *config) made() (entries []cache.Entry) {
	for _, h := range c.History {
		if !h.EmptyLayer {
			entries = append(entries, cache.Entry{Created: h.Created, Step: h.CreatedBy})
		}
	}
	return entries
}

// add puts e under the keys of s, unless nobody could use it: a layer that lies elsewhere than in the registry, or is none
// that can be read.
func (s *dataStep) add(entries map[cache.Key]cache.Entry, e cache.Entry) error {
	key, err := cache.ParseKey(s.Definition)
	if err != nil {
		return err
	}
	e.Content = key
	if s.Content != "" {
		if e.Content, err = cache.ParseKey(s.Content); err != nil {
			return err
		}
	}
	if e.Layer != nil {
		kind, err := e.Layer.MediaType()
		if err != nil {
			return err
		}
		if !kind.IsLayer() || !kind.IsDistributable() {
			return nil
		}
	}
	entries[key], entries[e.Content] = e, e
	return nil
}
