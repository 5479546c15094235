package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// recordVersion is that of the form of records. It changes when an old reader would take a new record for
// something that it is not.
const recordVersion = 1

// maxStepName bounds a step's name, which may be a whole script, in a record.
const maxStepName = 1 << 10

// Record is an entry as backends write it where other machines read it: all that is known of the layer without its
// bytes.
type Record struct {
	Key     Key
	Created time.Time
	Below   v1.Hash
	Content Key // zero when it is not known
	Step    string
	// Layer is nil when the step changed no file.
	Layer *LayerRecord
}

// LayerRecord says which bytes a layer has.
type LayerRecord struct {
	Digest    v1.Hash         `json:"digest"`
	Size      int64           `json:"size"`
	MediaType types.MediaType `json:"mediaType"`
	DiffID    v1.Hash         `json:"diffID"`
}

// Descriptor describes the layer's blob.
func (l *LayerRecord) Descriptor() v1.Descriptor {
	return v1.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size}
}

// recordJSON is a record as it is written. Sum is the SHA-256 of the rest: what was damaged on the way, or was
// written under another key, is found out.
type recordJSON struct {
	Version int          `json:"version"`
	Key     string       `json:"key"`
	Created time.Time    `json:"created"`
	Below   string       `json:"below,omitempty"`
	Content string       `json:"content,omitempty"`
	Step    string       `json:"step"`
	Layer   *LayerRecord `json:"layer,omitempty"`
	Sum     string       `json:"sum,omitempty"`
}

// NewRecord describes e. It reads nothing of the layer but what the layer knows of itself.
func NewRecord(k Key, e Entry) (Record, error) {
	r := Record{Key: k, Created: e.Created.UTC(), Below: e.Below, Content: e.Content, Step: strings.ToValidUTF8(e.Step, "\uFFFD")}
	if len(r.Step) > maxStepName {
		r.Step = strings.ToValidUTF8(r.Step[:maxStepName], "") + "…"
	}
	if e.Layer == nil {
		return r, nil
	}
	digest, err1 := e.Layer.Digest()
	size, err2 := e.Layer.Size()
	kind, err3 := e.Layer.MediaType()
	diffID, err4 := e.Layer.DiffID()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return Record{}, fmt.Errorf("describe layer: %w", err)
	}
	r.Layer = &LayerRecord{Digest: digest, Size: size, MediaType: kind, DiffID: diffID}
	return r, nil
}

// Entry returns the entry that the record is of, with this layer.
func (r Record) Entry(l v1.Layer) Entry {
	return Entry{Layer: l, Created: r.Created, Below: r.Below, Content: r.Content, Step: r.Step}
}

// Encode returns the record's bytes: one line of JSON.
func (r Record) Encode() ([]byte, error) {
	j := recordJSON{Version: recordVersion, Key: r.Key.String(), Created: r.Created, Step: r.Step, Layer: r.Layer}
	if r.Below != (v1.Hash{}) {
		j.Below = r.Below.String()
	}
	if r.Content != (Key{}) {
		j.Content = r.Content.String()
	}
	sum, err := j.sum()
	if err != nil {
		return nil, err
	}
	j.Sum = sum
	return json.Marshal(j)
}

func (j recordJSON) sum() (string, error) {
	j.Sum = ""
	b, err := json.Marshal(j)
	if err != nil {
		return "", fmt.Errorf("encode cache record: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// DecodeRecord reads what Encode wrote. Anything else is an error: damage, other versions, and descriptions that no layer
// could have.
func DecodeRecord(data []byte) (Record, error) {
	var j recordJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return Record{}, fmt.Errorf("decode cache record: %w", err)
	}
	if j.Version != recordVersion {
		return Record{}, fmt.Errorf("decode cache record: it has version %d, this program writes %d", j.Version, recordVersion)
	}
	if sum, err := j.sum(); err != nil || sum != j.Sum {
		return Record{}, errors.New("decode cache record: it is damaged")
	}
	r := Record{Created: j.Created, Step: j.Step, Layer: j.Layer}
	var err error
	if r.Key, err = ParseKey(j.Key); err != nil {
		return Record{}, fmt.Errorf("decode cache record: %w", err)
	}
	if j.Below != "" {
		if r.Below, err = v1.NewHash(j.Below); err != nil {
			return Record{}, fmt.Errorf("decode cache record: %w", err)
		}
	}
	if j.Content != "" {
		if r.Content, err = ParseKey(j.Content); err != nil {
			return Record{}, fmt.Errorf("decode cache record: %w", err)
		}
	}
	if l := r.Layer; l != nil {
		if !isSHA256(l.Digest) || !isSHA256(l.DiffID) || l.Size < 0 || !l.MediaType.IsLayer() {
			return Record{}, fmt.Errorf("decode cache record: no layer is %q of %d bytes with digest %q and diff ID %q",
				l.MediaType, l.Size, l.Digest, l.DiffID)
		}
	}
	return r, nil
}

func isSHA256(h v1.Hash) bool { return h.Algorithm == "sha256" && len(h.Hex) == 2*sha256.Size }

// ParseKey reads what [Key.String] gives.
func ParseKey(s string) (Key, error) {
	var k Key
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(k) || s != strings.ToLower(s) {
		return Key{}, fmt.Errorf("parse key %q: want %d hexadecimal digits", s, 2*len(k))
	}
	return Key(b), nil
}
