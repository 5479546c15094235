package cache

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
)

// PlaceType is the kind of backend that a value of --cache-from or --cache-to names.
type PlaceType string

// The types of BuildKit, and Google Cloud Storage.
const (
	// PlaceRegistry is a repository; Values["ref"] names it.
	PlaceRegistry PlaceType = "registry"
	// PlaceLocal is a directory: Values["src"] of what is read, Values["dest"] of what is written.
	PlaceLocal PlaceType = "local"
	// PlaceS3 is a bucket that speaks Amazon's S3.
	PlaceS3 PlaceType = "s3"
	// PlaceAzure is a container of Azure Blob Storage.
	PlaceAzure PlaceType = "azblob"
	// PlaceGCS is a bucket of Google Cloud Storage.
	PlaceGCS PlaceType = "gcs"
	// PlaceInline is the image itself.
	PlaceInline PlaceType = "inline"
)

// Place is a value of --cache-from or --cache-to.
type Place struct {
	Type PlaceType
	// Values are the options by BuildKit's names, checked: what the type needs is there, a switch is "true" or "false".
	Values map[string]string
	// Ignored names options that were given and change nothing here, sorted: every step is kept whatever mode says,
	// entries are ordinary manifests always, and layers are kept as the image has them.
	Ignored []string
}

// Use is what a place is for.
type Use string

const (
	// From is for places that are read: --cache-from.
	From Use = "from"
	// To is for places that are written: --cache-to.
	To Use = "to"
)

// placeOptions are the names that a type knows.
type placeOptions struct {
	needed, optional, switches, ignored []string
}

func optionsOf(t PlaceType, u Use) (placeOptions, bool) {
	exported := []string{
		"mode", "compression", "compression-level", "force-compression", "oci-mediatypes", "image-manifest", "ignore-error",
	}
	switch t {
	case PlaceRegistry:
		return placeOptions{needed: []string{"ref"}, switches: []string{"registry.insecure"}, ignored: exported}, true
	case PlaceLocal:
		dir := "src"
		if u == To {
			dir = "dest"
		}
		return placeOptions{needed: []string{dir}, ignored: append(exported, "tag", "digest", "reset")}, true
	case PlaceS3:
		return placeOptions{
			needed:   []string{"bucket"},
			optional: []string{"region", "prefix", "endpoint_url", "access_key_id", "secret_access_key", "session_token"},
			switches: []string{"use_path_style"},
			ignored: append(exported, "name", "blobs_prefix", "manifests_prefix", "touch_refresh", "upload_parallelism",
				"retry_mode", "retry_max_attempts", "disable_accept_encoding"),
		}, true
	case PlaceAzure:
		return placeOptions{
			needed:   []string{"account_url"},
			optional: []string{"container", "prefix", "secret_access_key"},
			ignored:  append(exported, "name", "blobs_prefix", "manifests_prefix"),
		}, true
	case PlaceGCS:
		return placeOptions{
			needed:   []string{"bucket"},
			optional: []string{"prefix", "endpoint_url"},
			ignored:  append(exported, "name"),
		}, true
	case PlaceInline:
		return placeOptions{ignored: exported}, u == To
	}
	return placeOptions{}, false
}

// ParsePlace reads a value of --cache-from or --cache-to as buildx does: comma-separated key=value pairs in CSV, as in
// type=registry,ref=host/name. A lone word is the reference of a registry. The error names a key or a type that is not known,
// and what it may have meant; it never repeats a secret.
func ParsePlace(s string, u Use) (Place, error) {
	p, err := parsePlace(s, u)
	if err != nil {
		return Place{}, fmt.Errorf("parse cache-%s: %w", u, err)
	}
	return p, nil
}

func parsePlace(s string, u Use) (Place, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil || len(fields) == 0 {
		return Place{}, errors.New("write key=value pairs with commas between them, such as type=registry,ref=host/name")
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		fields = []string{"type=registry", "ref=" + fields[0]}
	}
	values := map[string]string{}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return Place{}, fmt.Errorf("%q is not key=value", f)
		}
		if _, twice := values[key]; twice {
			return Place{}, fmt.Errorf("%q is there twice", key)
		}
		values[key] = value
	}
	return typedPlace(values, u)
}

// typedPlace checks values against what their type knows.
func typedPlace(values map[string]string, u Use) (Place, error) {
	p := Place{Type: PlaceType(values["type"]), Values: map[string]string{}}
	if p.Type == "" {
		return Place{}, errors.New("the type is missing: type=registry, local, s3, azblob or gcs")
	}
	o, ok := optionsOf(p.Type, u)
	if !ok {
		return Place{}, unknownWord("type", string(p.Type), placeTypes(u))
	}
	delete(values, "type")
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch {
		case slices.Contains(o.ignored, key):
			p.Ignored = append(p.Ignored, key)
		case slices.Contains(o.switches, key):
			on, err := strconv.ParseBool(values[key])
			if err != nil {
				return Place{}, fmt.Errorf("%s is true or false, not %q", key, values[key])
			}
			p.Values[key] = strconv.FormatBool(on)
		case slices.Contains(o.needed, key), slices.Contains(o.optional, key):
			p.Values[key] = values[key]
		default:
			return Place{}, unknownWord("option of type="+string(p.Type), key, slices.Concat(o.needed, o.optional, o.switches))
		}
	}
	for _, key := range o.needed {
		if p.Values[key] == "" {
			return Place{}, fmt.Errorf("type=%s needs %s=", p.Type, key)
		}
	}
	return p, nil
}

func placeTypes(u Use) []string {
	types := []string{"registry", "local", "s3", "azblob", "gcs"}
	if u == To {
		types = append(types, "inline")
	}
	return types
}

// unknownWord names the word that was probably meant, or all that there are.
func unknownWord(what, word string, known []string) error {
	for _, k := range known {
		if levenshtein.Distance(word, k, nil) <= 2 {
			return fmt.Errorf("unknown %s %q: did you mean %q?", what, word, k)
		}
	}
	return fmt.Errorf("unknown %s %q: there are %s", what, word, strings.Join(known, ", "))
}
